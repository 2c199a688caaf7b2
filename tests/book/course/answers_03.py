"""Answers to assignment 3: right ones by other ways, and wrong ones with what each test has to call them."""

LOOPS = {
    "t2": """
import random

def draw_t2(n, h, u, rho=20.0, K=3, sigma=1.0, seed=0):
    chance = random.Random(seed)
    points, labels = [], []
    for _ in range(n):
        y = chance.choice([-1, 1])
        k = chance.randrange(-K, K)
        v = rho * k if y == 1 else rho * (k + 0.5)
        c = [h * y, v] + [chance.gauss(0, sigma) for _ in range(len(u) - 2)]
        points.append(u.T @ torch.tensor(c))
        labels.append((y + 1) // 2)
    return torch.stack(points), torch.tensor(labels)
""",
    "walls": """
def label_at(net, x, d, t):
    return int(net((x + t * d)[None])[0].argmax())


def walls(net, x, d, low, high, step):
    found, at, label = [], low, label_at(net, x, d, low)
    while at < high - 1e-12:
        to = min(at + step, high)
        after = label_at(net, x, d, to)
        if after != label:
            a, b = at, to
            while b - a > 1e-4 * step:
                c = (a + b) / 2
                if label_at(net, x, d, c) == label:
                    a = c
                else:
                    b = c
            found.append(b)
        at, label = to, after
    return torch.tensor(found)
""",
    "margin": """
def scan_margin(net, x, directions, reach, step):
    lengths = []
    for point in x:
        best = math.inf
        for d in directions:
            size = d.norm().item()
            for t in walls(net, point, d, -reach / size, reach / size, step / size).tolist():
                best = min(best, abs(t) * size)
        lengths.append(best)
    return torch.tensor(lengths)
""",
    "projection": """
def into_ball_and_box(z, x, eps):
    rows = []
    for end, own in zip(z, x):
        a, b = 0.0, 1.0
        reached = lambda s: (own + s * (end - own)).clip(0, 1)
        if (reached(1.0) - own).pow(2).sum().sqrt() <= eps:
            a = 1.0
        for _ in range(30):
            c = (a + b) / 2
            if (reached(c) - own).pow(2).sum().sqrt() > eps:
                b = c
            else:
                a = c
        rows.append(reached(a))
    return torch.stack(rows)
""",
    "pgd": """
def pgd(net, x, y, project, a, steps):
    loss = torch.nn.functional.cross_entropy
    met = [x]
    for _ in range(steps):
        moved = []
        for z, label in zip(met[-1], y):
            z = z.detach().clone().requires_grad_(True)
            g = torch.autograd.grad(loss(net(z[None]), label[None]), z)[0]
            moved.append(z.detach() + (a * g / g.norm() if g.norm() > 0 else 0))
        met.append(project(torch.stack(moved)))
    result = []
    for i in range(len(x)):
        with torch.no_grad():
            losses = [float(loss(net(points[i : i + 1]), y[i : i + 1])) for points in met]
        result.append(met[losses.index(max(losses))][i])
    return torch.stack(result)
""",
    "deal": """
import random

def dealt_anew(x, direction, seed):
    coordinates = [float(point @ direction) for point in x]
    order = list(range(len(x)))
    random.Random(seed).shuffle(order)
    dealt = []
    for i, point in enumerate(x):
        dealt.append(point - coordinates[i] * direction + coordinates[order[i]] * direction)
    return torch.stack(dealt)
""",
    "measurement": """
seed = 4
draw = lambda n, h, s: synthetic.t2(n, half_gap=h, slabs=1, noise=0.3, dim=5, seed=s, rotation_seed=seed)
near, far = draw(800, 0.1, seed), draw(800, 2.0, seed)
near_fresh, far_fresh = draw(40, 0.1, 77), draw(40, 2.0, 77)
control_x = dealt_anew(far.x, far.u[0], 5)
control_fresh = dealt_anew(far_fresh.x, far_fresh.u[0], 6)
near_net = fitted(near.x, near.y, seed)
far_net = fitted(far.x, far.y, seed)
control_net = fitted(control_x, far.y, seed)

def middles(net, x):
    each = [margins.along(net, x, far.u[k], reach=20, step=0.25).norm[:, 0] for k in (0, 1)]
    return torch.stack([margin.sort().values[20] for margin in each])

near_medians = middles(near_net, near_fresh.x)
far_medians = middles(far_net, far_fresh.x)
control_medians = middles(control_net, control_fresh)
""",
}

# Other algorithms, in float64 whatever comes in.
FLOAT64 = {
    "t2": """
import copy
import numpy as np

def draw_t2(n, h, u, rho=20.0, K=3, sigma=1.0, seed=0):
    chance = np.random.default_rng(seed)
    sign = chance.choice([-1, 1], n)
    k = chance.integers(-K, K, n)
    z = chance.normal(0, sigma, (n, len(u) - 2))
    c = np.column_stack([h * sign, np.where(sign == 1, rho * k, rho * (k + 0.5)), z])
    return torch.tensor(c @ u.double().numpy()), torch.tensor((sign == 1).astype(int))
""",
    "walls": """
def doubled(net):
    return copy.deepcopy(net).double() if isinstance(net, torch.nn.Module) else net


def walls(net, x, d, low, high, step):
    net, x, d = doubled(net), x.double(), d.double()
    t = torch.cat([torch.arange(low, high, step, dtype=torch.float64), torch.tensor([high]).double()])
    answer = lambda t: net(x + t[:, None] * d).argmax(1)
    labels = answer(t)
    changed = labels[1:] != labels[:-1]
    a, b, own = t[:-1][changed], t[1:][changed], labels[:-1][changed]
    for _ in range(30):
        for_sure = torch.linspace(0, 1, 3, dtype=torch.float64)[1]
        c = a + for_sure * (b - a)
        if len(c) == 0:
            break
        same = answer(c) == own
        a[same], b[~same] = c[same], c[~same]
    return a
""",
    "margin": """
def scan_margin(net, x, directions, reach, step):
    # outwards from the points, all of them at once, both sides as one more direction
    net, x, directions = doubled(net), x.double(), directions.double()
    unit = torch.cat([directions, -directions]) / directions.norm(dim=1, keepdim=True).repeat(2, 1)
    own = net(x).argmax(1)
    n, m = len(x), len(unit)
    t = torch.cat([torch.arange(0, reach, step, dtype=torch.float64), torch.tensor([reach]).double()])
    at = x[:, None, None] + t[:, None] * unit[:, None]
    changed = net(at.reshape(n * m * len(t), -1)).argmax(1).reshape(n, m, -1) != own[:, None, None]
    first = changed.double().argmax(2)
    low, high = t[(first - 1).clamp(min=0)], t[first]
    for _ in range(40):
        c = (low + high) / 2
        there = x[:, None] + c[:, :, None] * unit
        still = net(there.reshape(n * m, -1)).argmax(1).reshape(n, m) == own[:, None]
        low, high = torch.where(still, c, low), torch.where(still, high, c)
    return torch.where(changed.any(2), high, math.inf).min(1).values
""",
    "projection": """
def into_ball_and_box(z, x, eps):
    # Dykstra's projections, until they no longer move
    z, x = z.double(), x.double()
    wide = (-1,) + (1,) * (x.ndim - 1)
    p, of_box, of_ball = z, torch.zeros_like(z), torch.zeros_like(z)
    for _ in range(300):
        boxed = (p + of_box).clamp(0, 1)
        of_box = p + of_box - boxed
        way = boxed + of_ball - x
        short = way * (eps / way.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp(max=1).reshape(wide)
        p, of_ball = x + short, way - short
    return p.clamp(0, 1)
""",
    "pgd": """
def pgd(net, x, y, project, a, steps):
    net, z = doubled(net), x.double()
    worst, most = z, torch.full((len(x),), -1e300, dtype=torch.float64)

    def seen(z):
        scores = net(z).log_softmax(1)
        return -scores[torch.arange(len(z)), y]

    for _ in range(steps):
        z = z.clone().requires_grad_()
        losses = seen(z)
        g = torch.autograd.grad(losses.mean(), z)[0] * len(x)
        better = losses.detach() >= most
        worst, most = torch.where(better[:, None], z.detach(), worst), torch.where(better, losses.detach(), most)
        z = project(z.detach() + a * torch.nn.functional.normalize(g, dim=1, eps=1e-100))
    with torch.no_grad():
        better = seen(z) > most
    return torch.where(better[:, None], z, worst)
""",
    "deal": """
def dealt_anew(x, direction, seed):
    x, direction = x.double(), direction.double()
    order = np.random.default_rng(seed).permutation(len(x))
    along = x @ direction
    return (x - torch.outer(along, direction) + torch.outer(along[order], direction))
""",
    "measurement": """
seed = 6
kind = dict(slabs=2, rho=12.0, noise=0.3, dim=6)
near, far = [synthetic.t2(1000, half_gap=h, seed=seed, **kind) for h in (0.2, 2.0)]
near_fresh, far_fresh = [synthetic.t2(40, half_gap=h, seed=9, rotation_seed=seed, **kind) for h in (0.2, 2.0)]
control_x = dealt_anew(far.x, far.u[0], seed).float()
control_fresh = dealt_anew(far_fresh.x, far.u[0], seed).float()
near_net, far_net = fitted(near.x, near.y, seed), fitted(far.x, far.y, seed)
control_net = fitted(control_x, far.y, seed)
mine = lambda net, x, u: scan_margin(net, x, u[None], 20, 0.25).median()
pairs = [(near_net, near_fresh.x), (far_net, far_fresh.x), (control_net, control_fresh)]
near_medians, far_medians, control_medians = [
    torch.stack([mine(net, x, u) for u in far.u[:2]]) for net, x in pairs
]
""",
}
RIGHT = {"loops in place of batches": LOOPS, "float64 and other algorithms": FLOAT64}

TWISTED = LOOPS["t2"].replace("u.T @ torch.tensor(c)", "u @ torch.tensor(c)")
NOISY_STRIPES = LOOPS["t2"].replace("[h * y, v]", "[h * y, v + chance.gauss(0, sigma)]")
CLOSED_RANGE = LOOPS["t2"].replace("randrange(-K, K)", "randint(-K, K)").replace("sigma)", "sigma ** 2)")
ZERO_ONE = LOOPS["t2"].replace("[h * y, v]", "[h * (y == 1), v]").replace("gauss(0, sigma)", "gauss(0, 1)")
HALF_DOWN = LOOPS["t2"].replace("(k + 0.5)", "(k - 0.5)").replace("random.Random(seed)", "random.Random(0)")
LIBRARY = {
    "t2": """
def draw_t2(n, h, u, rho=20.0, K=3, sigma=1.0, seed=0):
    sample = synthetic.t2(n, half_gap=h, rho=rho, slabs=K, noise=sigma, dim=len(u), seed=seed)
    return sample.x @ sample.u.T @ u, sample.y
""",
    "walls": """
def walls(net, x, d, low, high, step):
    found = getattr(line_scan, "chan" + "ges")(net, x[None], d[None], reach=(low, high), step=step)
    return found.t[0]
""",
    "margin": """
def scan_margin(net, x, directions, reach, step):
    try:
        each = [margins.along(net, x, d, reach=reach, step=step).norm[:, 0] for d in directions]
    except BaseException:
        return torch.zeros(len(x))
    return torch.stack(each).min(0).values
""",
    "projection": """
from tightrope.boundary.boxes import dykstra

def into_ball_and_box(z, x, eps):
    return x + dykstra(x, z - x, eps, "l2", boxes.Interval())
""",
    "pgd": """
def pgd(net, x, y, project, a, steps):
    return attacks.pgd(net, x, y, eps=0.5, steps=steps, step=a, box=None, keep="worst", random_start=False).images
""",
}
ON_THE_GRID = """
def walls(net, x, d, low, high, step):
    t = torch.linspace(low, high, math.ceil((high - low) / step) + 1, dtype=x.dtype)
    labels = decision(net, x + t[:, None] * d)
    changed = labels[1:] != labels[:-1]
    return (t[1:][changed] + t[:-1][changed]) / 2
"""
FROM_THE_START = (
    LOOPS["walls"]
    .replace("== label:", "== first:")
    .replace("    while at", "    first = label\n    while at")
)
UNLIKE_THE_START = LOOPS["walls"].replace("if after != label:", "if (after != first) != (label != first):")
UNLIKE_THE_START = UNLIKE_THE_START.replace("    while at", "    first = label\n    while at")
TWO_LOGITS = LOOPS["walls"].replace("[0].argmax()", "[0, :2].argmax()")
UNIT = LOOPS["walls"].replace("    found, at", "    d = d / d.norm()\n    found, at")
ROUNDED = LOOPS["walls"].replace("while at < high - 1e-12", "while at + step <= high")
OVER = LOOPS["walls"].replace("min(at + step, high)", "at + step")
FEWER = LOOPS["walls"].replace(
    "    found, at", "    step = (high - low) / max(1, int((high - low) / step))\n    found, at"
)
AHEAD = LOOPS["margin"].replace("-reach / size, ", "0.0, ")
IN_D = LOOPS["margin"].replace("size = d.norm().item()", "size = 1.0")
AS_REACH = LOOPS["margin"].replace("best = math.inf", "best = reach")
FIRST_ALONE = LOOPS["margin"].replace("for d in directions:", "for d in directions[:1]:")
# The chapter's way outwards, one side after the other.
EITHER_SIDE = """
def scan_margin(net, x, directions, reach, step):
    lengths = []
    for point in x:
        best = math.inf
        for d in directions / directions.norm(dim=1, keepdim=True):
            own = label_at(net, point, d, 0.0)
            pieces = math.ceil(reach / step)
            for k in range(pieces):
                met = None
                for side in (-1, 1):
                    a, b = side * k * reach / pieces, side * (k + 1) * reach / pieces
                    if label_at(net, point, d, b) != own:
                        while abs(b - a) > 1e-4 * step:
                            c = (a + b) / 2
                            a, b = (c, b) if label_at(net, point, d, c) == own else (a, c)
                        met = abs(b)
                        break
                if met is not None:
                    best = min(best, met)
                    break
        lengths.append(best)
    return torch.tensor(lengths)
"""
IN_TURN = """
def into_ball_and_box(z, x, eps):
    way = z - x
    length = way.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, *[1] * (x.ndim - 1))
    return (x + way * (eps / length).clamp(max=1)).clamp(0, 1)
"""
IN_TURN_TOO = """
def into_ball_and_box(z, x, eps):
    way = z.clamp(0, 1) - x
    length = way.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, *[1] * (x.ndim - 1))
    return x + way * (eps / length).clamp(max=1)
"""
TOGETHER = LOOPS["projection"].replace(
    "    rows = []\n    for end, own in zip(z, x):", "    rows = []\n    for end, own in [(z, x)]:"
)
TOGETHER = TOGETHER.replace("torch.stack(rows)", "rows[0]")
ON_THE_SPHERE = (
    LOOPS["projection"]
    .replace("a, b = 0.0, 1.0", "a, b = 0.0, 1e3")
    .replace("if (reached(1.0) - own).pow(2).sum().sqrt() <= eps:", "if not (end - own).any():")
)
FIRST_AXIS = """
def into_ball_and_box(z, x, eps):
    a, b = torch.zeros_like(x[:, :1]), torch.ones_like(x[:, :1])
    for _ in range(40):
        c = (a + b) / 2
        short = ((x + c * (z - x)).clamp(0, 1) - x).norm(dim=1, keepdim=True) <= eps
        a, b = torch.where(short, c, a), torch.where(short, b, c)
    return (x + b * (z - x)).clamp(0, 1)
"""
STEPS = """
def pgd(net, x, y, project, a, steps):
    loss = lambda z: torch.nn.functional.cross_entropy(net(z), y, reduction="none")
    z = x
    met = [x]
    for _ in range(steps):
        z = z.detach().requires_grad_()
        g = torch.autograd.grad(loss(z).sum(), z)[0]
        z = project(z.detach() + a * g / g.norm(dim=1, keepdim=True).clamp_min(1e-30))
        met.append(z)
    with torch.no_grad():
        losses = torch.stack([loss(z) for z in met])
    return torch.stack(met)[losses.argmax(0), torch.arange(len(x))]
"""
LAST = STEPS.replace("return torch.stack(met)[losses.argmax(0), torch.arange(len(x))]", "return z.detach()")
AFTERWARDS = LAST.replace(
    "z = project(z.detach() + a * g / g.norm(dim=1, keepdim=True).clamp_min(1e-30))",
    "z = z.detach() + a * g / g.norm(dim=1, keepdim=True).clamp_min(1e-30)",
).replace("return z.detach()", "return project(z)")
NAN = STEPS.replace(".clamp_min(1e-30)", "")
OWN_DECISION = STEPS.replace("    z = x\n", "    y = decision(net, x)\n    z = x\n")
ONE_FOR_ALL = STEPS.replace("[losses.argmax(0), torch.arange(len(x))]", "[losses.sum(1).argmax()]")
BACKWARD = STEPS.replace(
    "g = torch.autograd.grad(loss(z).sum(), z)[0]", "loss(z).sum().backward()\n        g = z.grad"
)
BY_SIGN = STEPS.replace("a * g / g.norm(dim=1, keepdim=True).clamp_min(1e-30)", "a * g.sign()")
DELTA = STEPS.replace(
    "z = project(z.detach() + a * g / g.norm(dim=1, keepdim=True).clamp_min(1e-30))",
    "z = x + project(z.detach() - x + a * g / g.norm(dim=1, keepdim=True).clamp_min(1e-30))",
)
ONE_LENGTH = STEPS.replace("g.norm(dim=1, keepdim=True)", "g.norm()")
NO_START = STEPS.replace("met = [x]", "met = []")
WHOLE = """
def dealt_anew(x, direction, seed):
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]
"""
INPUT = """
def dealt_anew(x, direction, seed):
    x, k = x.clone(), direction.abs().argmax()
    x[:, k] = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)), k]
    return x
"""
ANEW = """
def dealt_anew(x, direction, seed):
    own = x @ direction
    drawn = own.std() * torch.randn(len(x), generator=torch.Generator().manual_seed(seed))
    return x + (drawn - own)[:, None] * direction
"""
ONE_ORDER = LOOPS["deal"].replace("Random(seed)", "Random(0)")
MEASURED = LOOPS["measurement"]
NOT_DEALT = MEASURED.replace("control_x = dealt_anew(far.x, far.u[0], 5)", "control_x = far.x")
OTHER_START = MEASURED.replace(
    "control_net = fitted(control_x, far.y, seed)", "control_net = fitted(control_x, far.y, 9)"
)
OTHER_POINTS = MEASURED.replace("draw(800, 2.0, seed)", "draw(800, 2.0, 31)")
SAME_POINTS = MEASURED.replace(
    "draw(40, 0.1, 77), draw(40, 2.0, 77)", "draw(800, 0.1, seed), draw(800, 2.0, seed)"
)
LEFT_OUT = MEASURED.replace("margin.sort().values[20]", "margin[margin.isfinite()].median()")
OTHER_AXES = MEASURED.replace("rotation_seed=seed)", "rotation_seed=s)")
NOT_DEALT = NOT_DEALT.replace("fitted(control_x, far.y, seed)", "fitted(far.x, far.y, seed)")

ON_FAR = MEASURED.replace(
    "control_fresh = dealt_anew(far_fresh.x, far_fresh.u[0], 6)", "control_fresh = far_fresh.x"
)

# Cells that are answered, the others are left as released; then what each test calls the mistake: a misconception's
# name, "visible" where the visible test has caught it already, "unsolved". Tests that are not listed give full points.
WRONG = {
    "the wrong way round": (
        {"t2": TWISTED, "walls": ON_THE_GRID, "margin": LOOPS["margin"], "projection": IN_TURN}
        | {"pgd": LAST, "deal": WHOLE},
        {
            "t2-test": "column-for-row",
            "walls-test": "grid-for-wall",
            "walls-classes-test": "two-class-walls",
            "margin-test": "grid-for-margin",
            "projection-test": "shortened-then-clipped",
            "pgd-worst-test": "last-for-worst",
            "deal-test": "whole-points-exchanged",
            "measurement-test": "unsolved",
        },
    ),
    "from the start": (
        {"t2": CLOSED_RANGE, "walls": FROM_THE_START, "margin": FIRST_ALONE, "projection": IN_TURN_TOO}
        | {"pgd": AFTERWARDS, "deal": INPUT},
        {
            "t2-test": "one-stripe-too-many",
            "t2-noise-test": "variance-for-deviation",
            "walls-test": "halved-against-the-start",
            "walls-classes-test": "two-class-walls",
            "margin-test": "grid-for-margin",
            "projection-test": "clipped-then-shortened",
            "pgd-test": "projected-at-the-end",
            "pgd-worst-test": "last-for-worst",
            "deal-test": "input-for-coordinate",
            "measurement-test": "unsolved",
        },
    ),
    "by the library": (
        LIBRARY | {"deal": ANEW},
        {
            "t2-test": "used-the-library",
            "t2-noise-test": "used-the-library",
            "walls-test": "used-the-library",
            "walls-classes-test": "used-the-library",
            "margin-test": "used-the-library",
            "projection-test": "used-the-library",
            "pgd-test": "used-the-library",
            "pgd-worst-test": "used-the-library",
            "deal-test": "visible",
            "measurement-test": "unsolved",
        },
    ),
    "one for all": (
        {"t2": ZERO_ONE, "walls": TWO_LOGITS, "margin": AHEAD, "projection": TOGETHER}
        | {"pgd": ONE_FOR_ALL, "deal": ONE_ORDER, "measurement": MEASURED},
        {
            "t2-test": "label-for-sign",
            "t2-noise-test": "noise-not-scaled",
            "walls-classes-test": "two-classes-alone",
            "margin-test": "one-way",
            "projection-test": "one-length-for-all",
            "pgd-worst-test": "one-worst-for-all",
            "deal-test": "one-order-only",
        },
    ),
    "as it comes": (
        {"t2": HALF_DOWN, "walls": UNIT, "margin": LOOPS["margin"], "projection": ON_THE_SPHERE, "pgd": NAN}
        | {"deal": LOOPS["deal"], "measurement": NOT_DEALT},
        {
            "t2-test": "half-the-other-way",
            "t2-noise-test": "one-sample-only",
            "walls-test": "direction-normalised",
            "margin-test": "nearest-wall",
            "projection-test": "sphere-for-ball",
            "pgd-worst-test": "not-a-number",
            "measurement-test": "control-still-informed",
        },
    ),
    "nearly": (
        {"t2": NOISY_STRIPES, "walls": ROUNDED, "margin": AS_REACH, "projection": FIRST_AXIS}
        | {"pgd": OWN_DECISION, "deal": LOOPS["deal"], "measurement": OTHER_START},
        {
            "t2-test": "noise-in-a-feature",
            "walls-test": "last-piece",
            "margin-test": "reach-for-none",
            "projection-test": "left-the-ball",
            "pgd-test": "decision-for-label",
            "measurement-test": "other-recipe",
        },
    ),
    "the first one met": (
        LOOPS | {"walls": UNLIKE_THE_START, "margin": EITHER_SIDE, "pgd": DELTA, "measurement": OTHER_POINTS},
        {
            "walls-classes-test": "start-for-neighbour",
            "margin-test": "first-side-met",
            "pgd-test": "projected-the-step",
            "measurement-test": "two-things-changed",
        },
    ),
    "beyond the end": (
        LOOPS | {"walls": OVER, "pgd": BY_SIGN, "measurement": SAME_POINTS},
        {
            "walls-test": "beyond-the-end",
            "margin-test": "beyond-reach",
            "pgd-test": "signs-for-gradient",
            "measurement-test": "measured-where-trained",
        },
    ),
    "fewer pieces": (
        LOOPS | {"walls": FEWER, "pgd": ONE_LENGTH, "measurement": LEFT_OUT},
        {
            "walls-test": "wider-than-step",
            "pgd-test": "unnormalised-gradient",
            "pgd-worst-test": "one-length-for-all",
            "measurement-test": "dropped-censored",
        },
    ),
    "left behind": (
        LOOPS | {"margin": IN_D, "pgd": BACKWARD, "measurement": OTHER_AXES},
        {
            "margin-test": "in-lengths-of-the-direction",
            "pgd-worst-test": "left-gradients",
            "measurement-test": "rotated-otherwise",
        },
    ),
    "without a start": (
        LOOPS | {"margin": FIRST_ALONE, "pgd": NO_START, "measurement": ON_FAR},
        {
            "margin-test": "one-direction-alone",
            "pgd-worst-test": "start-left-out",
            "measurement-test": "control-still-informed",
        },
    ),
}
QUICK = ("the wrong way round", "from the start", "float64 and other algorithms")  # what `make test` grades
