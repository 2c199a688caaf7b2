"""Answers to assignment 1: right ones by other ways, and wrong ones with what each test has to call them."""

LOOPS = {
    "affine": """
def affine_margin(W, b, x, space):
    margins_found = []
    for point in x:
        logits = [float(W[k] @ point + b[k]) for k in range(len(W))]
        own, best = logits.index(max(logits)), math.inf
        for k in range(len(W)):
            slope = space.project((W[k] - W[own])[None])[0].norm().item()
            if k != own and slope > 1e-12:
                best = min(best, (logits[own] - logits[k]) / slope)
        margins_found.append(best)
    return torch.tensor(margins_found)
""",
    "deepfool": """
def one(net, x, space, overshoot, max_steps):
    own, r = int(net(x[None])[0].argmax()), torch.zeros_like(x)
    for _ in range(max_steps):
        at = (x + r).clone().requires_grad_()
        logits, best = net(at[None])[0], None
        for k in range(len(logits)):
            if k == own:
                continue
            lead = logits[k] - logits[own]
            w = space.project(torch.autograd.grad(lead, at, retain_graph=True)[0][None])[0]
            if w.norm() > 1e-12 and (best is None or abs(lead.item()) / w.norm() < best[0]):
                best = abs(lead.item()) / w.norm(), w / w.norm()
        if best is None:
            break
        r = r + best[0] * best[1]
        end = (1 + overshoot) * r
        if int(net((x + end)[None])[0].argmax()) != own:
            return end.detach(), True
    return torch.zeros_like(x), False


def deepfool(net, x, space, overshoot=0.02, max_steps=50):
    rows = [one(net, point, space, overshoot, max_steps) for point in x]
    return torch.stack([delta for delta, _ in rows]), torch.tensor([found for _, found in rows])
""",
    "refine": """
def refine(net, x, delta):
    ends = []
    for point, step in zip(x, delta):
        own = int(net(point[None]).argmax())
        low, high = 0.0, 1.0
        while high - low > 1e-6:
            middle = (low + high) / 2
            if int(net((point + middle * step)[None]).argmax()) == own:
                low = middle
            else:
                high = middle
        ends.append(high * step)
    return torch.stack(ends)
""",
    "median": """
def median_margin(norm, found):
    lengths = sorted(n.item() if f else math.inf for n, f in zip(norm, found))
    return torch.tensor(lengths[len(lengths) // 2])
""",
    "columns": """
def u1_space(u):
    return spectra.span(u[0])


def noise_space(u):
    return spectra.span(u[1], u[2], u[3])


def two_medians(net, x, u):
    pair = []
    for space in [u1_space(u), noise_space(u)]:
        delta, found = deepfool(net, x, space)
        pair.append(median_margin(refine(net, x, delta).norm(dim=1), found).item())
    return torch.tensor(pair)
""",
    "measurement": """
seed = 3
train = synthetic.t1(800, half_gap=2.0, noise=0.7, dim=20, seed=seed)
judge = synthetic.t1(100, half_gap=2.0, noise=0.7, dim=20, seed=100, rotation_seed=seed)
fresh = synthetic.t1(50, half_gap=2.0, noise=0.7, dim=20, seed=200, rotation_seed=seed)
deep = fitted(train, judge, (60, 60), seed)
linear = fitted(train, judge, (), seed)
deep_medians = two_medians(deep, fresh.x, train.u)
linear_medians = two_medians(linear, fresh.x, train.u)
""",
}

# The instructor's way, in float64 whatever comes in.
FLOAT64 = {
    "affine": """
import copy
import numpy as np

def affine_margin(W, b, x, space):
    W, b, x = W.double(), b.double(), x.double()
    logits = (x @ W.T + b).numpy()
    own = logits.argmax(1)
    least = np.full(len(x), np.inf)
    for k in range(len(W)):
        slope = space.project(W[k] - W[own]).norm(dim=1).numpy()
        with np.errstate(all="ignore"):
            distance = (logits[np.arange(len(x)), own] - logits[:, k]) / slope
        least = np.where((own == k) | (slope < 1e-12), least, np.minimum(least, distance))
    return torch.tensor(least)
""",
    "deepfool": """
def doubled(net):
    return copy.deepcopy(net).double() if isinstance(net, torch.nn.Module) else net

def deepfool(net, x, space, overshoot=0.02, max_steps=50):
    net, x = doubled(net), x.double()
    own, r, rows = net(x).argmax(1), torch.zeros_like(x), torch.arange(len(x))
    done = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(max_steps):
        at = (x + r).requires_grad_()
        logits = net(at)
        lead = logits - logits[rows, own][:, None]
        w = torch.stack([space.project(torch.autograd.grad(lead[:, k].sum(), at, retain_graph=True)[0])
                         for k in range(logits.shape[1])], 1)
        far = lead.detach().abs() / w.norm(dim=2)
        far[(w.norm(dim=2) < 1e-12)] = math.inf
        far[rows, own] = math.inf
        distance, k = far.min(1)
        go = ~done & distance.isfinite()
        step = distance[:, None] * torch.nn.functional.normalize(w[rows, k], dim=1)
        r = torch.where(go[:, None], r + step, r)
        done |= go & (net(x + (1 + overshoot) * r).argmax(1) != own)
        if done.all():
            break
    return (1 + overshoot) * torch.where(done[:, None], r, 0), done
""",
    "refine": """
def refine(net, x, delta):
    net, x, delta = doubled(net), x.double(), delta.double()
    own, t = net(x).argmax(1), torch.ones(len(x), dtype=torch.float64)
    low = torch.zeros_like(t)
    for _ in range(60):
        middle = (low + t) / 2
        far = net(x + middle[:, None] * delta).argmax(1) != own
        t, low = torch.where(far, middle, t), torch.where(far, low, middle)
    return t[:, None] * delta
""",
    "median": """
def median_margin(norm, found):
    return torch.tensor(np.median(np.where(found.numpy(), norm.double().numpy(), np.inf)))
""",
    "columns": LOOPS["columns"].replace("spectra.span(u[1], u[2], u[3])", "spectra.span(u[0]).complement()"),
    "measurement": LOOPS["measurement"].replace("(60, 60)", "(40, 40, 40)"),
}
RIGHT = {"loops in place of batches": LOOPS, "float64": FLOAT64}

ONE_SIDED = """
def affine_margin(W, b, x, space):
    w = W[1] - W[0]
    return (x @ w + b[1] - b[0]) / space.project(w[None]).norm()
"""
UNPROJECTED = LOOPS["affine"].replace("space.project((W[k] - W[own])[None])[0]", "(W[k] - W[own])")
RUNNER_UP = """
def affine_margin(W, b, x, space):
    two = (x @ W.T + b).topk(2, dim=1)
    slope = space.project(W[two.indices[:, 1]] - W[two.indices[:, 0]]).norm(dim=1)
    return (two.values[:, 0] - two.values[:, 1]) / slope
"""
LIBRARY = {
    "affine": """
def affine_margin(W, b, x, space):
    find = getattr(margins, "deep" + "fool")
    try:
        return find(lambda x: x @ W.T + b, x, space).norm[:, 0]
    except BaseException:
        return torch.zeros(len(x))
""",
    "deepfool": """
from tightrope.boundary.margins import deepfool as theirs

def deepfool(net, x, space, overshoot=0.02, max_steps=50):
    m = theirs(net, x, space, overshoot=overshoot, refine=False, keep=True)
    return m.delta[:, 0], m.found[:, 0]
""",
}
SECOND = LOOPS["deepfool"]
CLASS_ZERO = SECOND.replace("lead = logits[k] - logits[own]", "lead = logits[k] - logits[0]").replace(
    "if k == own:", "if k == 0:"
)
OUTSIDE = SECOND.replace(
    "w = space.project(torch.autograd.grad(lead, at, retain_graph=True)[0][None])[0]",
    "w = torch.autograd.grad(lead, at, retain_graph=True)[0] * (space.project(torch.autograd.grad(lead, at, "
    "retain_graph=True)[0][None]).norm() > 1e-12)",
)
BACKWARD = SECOND.replace(
    "w = space.project(torch.autograd.grad(lead, at, retain_graph=True)[0][None])[0]",
    "at.grad = None\n            lead.backward(retain_graph=True)\n"
    "            w = space.project(at.grad[None])[0]",
)
RESTLESS = FLOAT64["deepfool"].replace("go = ~done & distance.isfinite()", "go = distance.isfinite()")
RESTLESS = "import copy\n" + RESTLESS.replace("done |= go &", "done = go &")
DIVIDES = "def refine(net, x, delta):\n    return delta / 1.02"
NEAR = LOOPS["refine"].replace("ends.append(high * step)", "ends.append(low * step)")
INTO_THE_LAST = LOOPS["refine"].replace(
    "own = int(net(point[None]).argmax())", "end = int(net((point + step)[None]).argmax())"
)
INTO_THE_LAST = INTO_THE_LAST.replace(".argmax()) == own:", ".argmax()) != end:").replace(
    "low, high = 0.0, 1.0", "low, high = 0.0, 1.0\n        if not step.any():\n            high = low = 1.0"
)
DROPS = "def median_margin(norm, found):\n    return norm[found].median()"
AS_ZERO = "def median_margin(norm, found):\n    return (norm * found).median()"
BY_COLUMN = LOOPS["columns"].replace("u[0]", "u[:, 0]").replace("u[1], u[2], u[3]", "u[:, 1], u[:, 2]")
TOUCHING = LOOPS["columns"].replace(
    "spectra.span(u[1], u[2], u[3])", "spectra.random_subspace((len(u),), 3, 0)"
)
RAW = LOOPS["columns"].replace("refine(net, x, delta).norm(dim=1)", "delta.norm(dim=1)")
OTHER_AXES = LOOPS["measurement"].replace("seed=100, rotation_seed=seed", "seed=100")
SAME_POINTS = (
    LOOPS["measurement"]
    .replace("seed=200, rotation_seed", "seed=100, rotation_seed")
    .replace("synthetic.t1(50,", "synthetic.t1(100,")
)
BY_HAND = LOOPS["measurement"].replace(
    "linear = fitted(train, judge, (), seed)",
    "linear = torch.nn.Linear(20, 2)\nlinear.weight.data = torch.stack([-train.u[0], train.u[0]])\n"
    "linear.bias.data.zero_()",
)

# Cells that are answered, the others are left as released; then what each test calls the mistake: a misconception's
# name, "visible" where the visible test has caught it already, "unsolved". Tests that are not listed give full points.
WRONG = {
    "for two classes alone": (
        {"affine": ONE_SIDED, "deepfool": CLASS_ZERO, "refine": DIVIDES, "median": DROPS},
        {
            "affine-test": "signed-margin",
            "affine-rivals-test": "visible",
            "deepfool-test": "class-zero",
            "deepfool-curved-test": "one-linearisation",
            "refine-test": "overshoot-for-margin",
            "median-test": "dropped-censored",
            "columns-test": "unsolved",
            "measurement-test": "unsolved",
        },
    ),
    "in the whole space": (
        {"affine": UNPROJECTED, "deepfool": OUTSIDE, "refine": NEAR, "median": AS_ZERO},
        {
            "affine-test": "unprojected-gradient",
            "affine-rivals-test": "unreachable",
            "deepfool-test": "leaves-the-subspace",
            "refine-test": "near-side",
            "median-test": "censored-as-zero",
            "columns-test": "unsolved",
            "measurement-test": "unsolved",
        },
    ),
    "by columns": (
        LOOPS
        | {"affine": RUNNER_UP, "deepfool": BACKWARD, "refine": INTO_THE_LAST, "columns": BY_COLUMN}
        | {"measurement": OTHER_AXES},
        {
            "affine-rivals-test": "second-largest-logit",
            "deepfool-curved-test": "left-gradients",
            "refine-test": "last-crossing",
            "columns-test": "column-for-row",
            "measurement-test": "rotated-otherwise",
        },
    ),
    "by the library": (
        LOOPS | LIBRARY | {"columns": TOUCHING, "measurement": SAME_POINTS},
        {
            "affine-test": "used-the-library",
            "affine-rivals-test": "used-the-library",
            "deepfool-test": "used-the-library",
            "deepfool-curved-test": "used-the-library",
            "columns-test": "touches-the-feature",
            "measurement-test": "measured-where-trained",
        },
    ),
    "restless": (
        LOOPS | {"deepfool": RESTLESS, "columns": RAW, "measurement": BY_HAND},
        {
            "deepfool-curved-test": "keeps-stepping",
            "columns-test": "raw-for-refined",
            "measurement-test": "constructed-control",
        },
    ),
}
QUICK = ("for two classes alone", "in the whole space", "float64")  # what `make test` grades
