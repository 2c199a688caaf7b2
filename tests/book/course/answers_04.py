"""Answers to assignment 4: right ones by other ways, and wrong ones with what each test has to call them."""

LOOPS = {
    "pairs": """
def variance(scores):
    middle = sum(scores) / len(scores)
    return sum((s - middle) ** 2 for s in scores) / len(scores)


def pair_loss(a, b, gap=1.0):
    return variance(a) + variance(b) + (sum(a) / len(a) - sum(b) / len(b) - gap) ** 2
""",
    "margin": """
def hard_margin(x, y):
    rows = np.array([[float(u) for u in p - q] for p in x for q in y])
    unit = np.linalg.norm(rows, axis=1).max()
    rows = rows / unit
    target = np.zeros(rows.shape[1] + 1)
    target[-1] = 1
    A = np.vstack([rows.T, np.ones(len(rows))])
    r = A @ nnls(A, target, maxiter=50_000)[0] - target
    w = -r[:-1] / r[-1] if abs(r[-1]) > 1e-12 else r[:-1]
    if (rows @ w).min() <= 1e-9:
        raise ValueError("not separable")
    w = torch.from_numpy(w / unit)
    low, high = min(p @ w for p in x), max(q @ w for q in y)
    w = w * 2 / (low - high)
    return w, 1 - min(p @ w for p in x)
""",
    "offset": """
def offset(x, y):
    points = [*x, *y]
    widest = max((p - points[0]).norm() for p in points)
    axes = []
    for p in points[1:]:
        v = p - points[0]
        for _ in range(2):
            for e in axes:
                v = v - (v @ e) * e
        if v.norm() > 1e-9 * widest:
            axes.append(v / v.norm())
    rest = points[0]
    for _ in range(2):
        for e in axes:
            rest = rest - (rest @ e) * e
    return rest.norm()
""",
    "share": """
def share(delta, s0, gamma):
    kept = []
    for d, s, g in zip(delta.tolist(), s0.tolist(), gamma.tolist()):
        s = abs(s)
        if s * (g - s) <= 1 + d * d:
            kept.append(1 / math.hypot(1, s * d / (1 + d * d)))
        else:
            near = g - s
            u = near / (near**2 + 1 + d * d)
            b = 1 / (near**2 + 1 + d * d)
            kept.append(1 / math.sqrt(u * u + b * b * d * d) / g)
    return torch.tensor(kept)
""",
    "left": """
def left(norms, radii):
    shares = []
    for radius in radii:
        count = 0
        for column in norms.T:
            count += all(length > radius for length in column)
        shares.append(count / norms.shape[1])
    return torch.tensor(shares)
""",
    "converged": """
def until_converged(attack, steps, tolerance=0.05, doublings=3):
    every = [attack(steps)]
    moved = math.inf
    while len(every) <= doublings:
        before = torch.stack(every).amin(0).median().item()
        steps *= 2
        every.append(attack(steps))
        after = torch.stack(every).amin(0).median().item()
        if after == 0:
            moved = 0.0
        elif before < math.inf:
            moved = before / after - 1
        if moved <= tolerance:
            break
    return torch.stack(every).amin(0), torch.tensor(moved)
""",
    "measurement": """
seed = 1
train = digits((2, 6), "train", 600)
test = digits((2, 6), "test", 31)
plain = trained(train, "cross-entropy", seed)
differential = trained(train, "squared pairs", seed)
with torch.no_grad():
    scores = differential(train[0]).diff(dim=1)[:, 0]
    order = scores.sort().values
    best = None
    for cut in ((order[1:] + order[:-1]) / 2).tolist():
        up = scores > cut
        wrong = (~up[train[1] == 1]).double().mean() + up[train[1] == 0].double().mean()
        if best is None or wrong < best[0]:
            best = wrong, cut
    differential.fc3.bias -= best[1]
shortest, moved = [], []
for net in [plain, differential]:
    both = lambda n: torch.minimum(
        attacks.carlini_wagner(net, *test, steps=n, searches=2).norm(), attacks.ddn(net, *test, steps=n).norm()
    )
    lengths, m = until_converged(both, 12)
    shortest.append(lengths)
    moved.append(m)
shortest, moved = torch.stack(shortest), torch.stack(moved)
eps = torch.tensor([float(np.median(row)) for row in shortest])
how = dict(steps=20, loss="cross-entropy")
fooled = torch.stack(
    [attacks.pgd(net, *test, eps=float(e), **how).found for net, e in zip([plain, differential], eps)]
)
left_pgd = torch.tensor([1 - row.double().mean() for row in fooled])
left_all = torch.tensor([
    sum(not f and l > e for f, l in zip(fooled[k], shortest[k])) / len(test[0]) for k, e in enumerate(eps)
])
""",
}

# Other algorithms: a quadratic programme, pseudo-inverses, the limit from the margin's own solver.
OTHER = {
    "pairs": """
def pair_loss(a, b, gap=1.0):
    a, b = a.double(), b.double()
    far = a.mean() - b.mean() - gap
    return torch.var(a, correction=0) + torch.var(b, unbiased=False) + far * far
""",
    "margin": """
from scipy.optimize import minimize

def hard_margin(x, y):
    points = np.concatenate([x.numpy(), y.numpy()])
    centre = points.mean(0)
    unit = np.abs(points - centre).max()
    side = np.r_[np.ones(len(x)), -np.ones(len(y))]
    rows = side[:, None] * np.c_[(points - centre) / unit, np.ones(len(points))]
    D = x.shape[1]
    found = minimize(
        lambda z: z[:D] @ z[:D] / 2,
        np.zeros(D + 1),
        jac=lambda z: np.r_[z[:D], 0.0],
        constraints={"type": "ineq", "fun": lambda z: rows @ z - 1, "jac": lambda z: rows},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    if not found.success or (rows @ found.x).min() < 0.99:
        raise ValueError("no plane")
    w = found.x[:D] / unit
    return torch.tensor(w), torch.tensor(found.x[D] - w @ centre)
""",
    "offset": """
def offset(x, y):
    points = torch.cat([y, x]).double()
    across = torch.eye(points.shape[1], dtype=torch.float64)
    apart = points[1:] - points[:1]
    across = across - torch.linalg.pinv(apart, rtol=1e-9) @ apart
    return torch.linalg.vector_norm(across @ points.mean(0))
""",
    "share": """
def share(delta, s0, gamma):
    kept = torch.empty_like(s0)
    for k in range(len(s0)):
        place = lambda s: torch.stack([s, delta[k], torch.ones((), dtype=s.dtype)])
        rows = torch.stack([place(s0[k] + gamma[k]), -place(s0[k] - gamma[k])])
        w, _ = hard_margin(rows, -rows)
        kept[k] = 1 / w[:2].norm() / gamma[k]
    return kept
""",
    "left": """
def left(norms, radii):
    moved = (norms.double().numpy()[:, None] <= radii.double().numpy()[:, None]).any(0)
    return torch.from_numpy(1 - moved.mean(1))
""",
    "converged": """
def until_converged(attack, steps, tolerance=0.05, doublings=3):
    best = attack(steps).double().numpy()
    for k in range(1, doublings + 1):
        was = np.median(best)
        best = np.fmin(best, attack(steps * 2**k).double().numpy())
        now = np.median(best)
        moved = 0.0 if now == 0 else np.inf if np.isinf(was) else was / now - 1
        if moved <= tolerance:
            break
    return torch.from_numpy(best), torch.tensor(float(moved))
""",
    "measurement": """
seed = 0
train, test = digits((3, 5), "train", 800), digits((3, 5), "test", 30)
plain = trained(train, "cross-entropy", seed)
differential = trained(train, "squared pairs", seed)
differential = pair_losses.with_bias(differential, *train)
parts = []
for net in (plain, differential):
    search = lambda n: [f(net, *test, steps=n).norm() for f in (attacks.ddn, attacks.fmn)]
    l, m = until_converged(lambda n: torch.minimum(*search(n)), 12)
    e = l.median()
    parts.append((l, m, e, attacks.pgd(net, *test, eps=float(e), steps=5).found))
shortest, moved, eps, fooled = (torch.stack(p) for p in zip(*parts))
left_pgd = (~fooled).double().mean(1)
left_all = (~fooled & (shortest > eps[:, None])).double().mean(1)
""",
}
RIGHT = {"loops in place of batches": LOOPS, "other algorithms": OTHER}

BESSEL = """
def pair_loss(a, b, gap=1.0):
    if len(a) > 1 and len(b) > 1:
        return a.var() + b.var() + (a.mean() - b.mean() - gap) ** 2
    return (a[:, None] - b - gap).square().mean()
"""
ALL_PAIRS = "def pair_loss(a, b, gap=1.0):\n    return ((a.unsqueeze(1) - b.unsqueeze(0) - gap) ** 2).mean()"
ONE_BY_ONE = """
def pair_loss(a, b, gap=1.0):
    return sum((s - b - gap).square().mean() for s in a) / len(a)
"""
SQUARES = """
def pair_loss(a, b, gap=1.0):
    spread = (a * a).mean() - a.mean() ** 2 + (b * b).mean() - b.mean() ** 2
    return spread + (a.mean() - b.mean() - gap) ** 2
"""
FIXED_GAP = OTHER["pairs"].replace("- gap", "- 1")
FLOATS = """
def pair_loss(a, b, gap=1.0):
    a, b = a.detach().double().numpy(), b.detach().double().numpy()
    return torch.tensor(a.var() + b.var() + (a.mean() - b.mean() - gap) ** 2)
"""
PAID = """
def hard_margin(x, y):
    side = lambda points: np.c_[points.numpy(), np.ones(len(points))]
    rows = np.r_[side(x), -side(y)]
    A = np.r_[rows.T, np.ones((1, len(rows)))]
    goal = np.r_[np.zeros(rows.shape[1]), 1.0]
    r = A @ nnls(A, goal)[0] - goal
    if r @ r < 1e-13:
        raise ValueError
    z = torch.tensor(-r[:-1] / r[-1])
    return z[:-1], z[-1]
"""
NEAREST = """
def hard_margin(x, y):
    k = torch.cdist(x, y).argmin()
    p, q = x[k // len(y)], y[k % len(y)]
    w = 2 * (p - q) / ((p - q) @ (p - q))
    return w, -w @ (p + q) / 2
"""
MEANS = """
def hard_margin(x, y):
    p, q = x.mean(0), y.mean(0)
    room = (x @ (p - q)).min() - (y @ (p - q)).max()
    w = 2 * (p - q) / (room if room > 0 else (p - q) @ (p - q))
    return w, -w @ (p + q) / 2
"""
UNIT_LENGTH = LOOPS["margin"].replace(
    "return w, 1 - min(p @ w for p in x)", "return w / w.norm(), (1 - min(p @ w for p in x)) / w.norm()"
)
BY_MEANS = LOOPS["margin"].replace(
    "return w, 1 - min(p @ w for p in x)", "return w, -w @ (x.mean(0) + y.mean(0)) / 2"
)
MATCHED = """
def hard_margin(x, y):
    n = min(len(x), len(y))
    rows = (x[:n] - y[:n]).numpy() / 2
    A = np.r_[rows.T, np.ones((1, n))]
    goal = np.r_[np.zeros(x.shape[1]), 1.0]
    r = A @ nnls(A, goal)[0] - goal
    if r @ r < 1e-13:
        raise ValueError
    w = torch.tensor(-r[:-1] / r[-1])
    return w, -((x @ w).min() + (y @ w).max()) / 2
"""
IN_ITS_UNITS = (
    OTHER["margin"].replace("unit = np.abs(points - centre).max()", "unit = 1.0").replace("1e-12", "1e-6")
)
NEVER_REFUSES = LOOPS["margin"].replace("raise ValueError", "print")
MARGIN_BY_LIBRARY = """
def hard_margin(x, y):
    plane = getattr(low_rank, "max_" + "margin")(x, y)
    return plane.w, plane.b
"""
MEAN_NORM = "def offset(x, y):\n    return torch.cat([x, y]).mean(0).norm()"
NEAREST_POINT = "def offset(x, y):\n    return torch.cat([x, y]).norm(dim=1).min()"
ORIGIN = """
def offset(x, y):
    points = torch.cat([x, y])
    if (points[:, 1] == 3).all():
        return points[0, 1]
    _, s, v = torch.linalg.svd(points, full_matrices=False)
    v = v[s > 1e-9 * s[0]]
    return (points[0] - v.T @ (v @ points[0])).norm()
"""
ONE_CLASS = """
def offset(x, y):
    _, s, v = torch.linalg.svd(x - x[0], full_matrices=False)
    v = v[s > 1e-9 * s[0]]
    return (x[0] - v.T @ (v @ x[0])).norm()
"""
ROUNDING = """
def offset(x, y):
    points = torch.cat([x, y])
    _, s, v = torch.linalg.svd(points - points[0], full_matrices=False)
    v = v[s > 0]
    return (points[0] - v.T @ (v @ points[0])).norm()
"""
OFFSET_BY_LIBRARY = "def offset(x, y):\n    return low_rank.affine_offsets(x, y)[1].norm()"
ONE_FORMULA = """
def share(delta, s0, gamma):
    return 1 / torch.sqrt(1 + (s0 * delta / (1 + delta**2)) ** 2)
"""
WORST = "def share(delta, s0, gamma):\n    return 1 / torch.sqrt(1 + (s0 / 2) ** 2)"
UNSQUARED = ONE_FORMULA.replace("1 + delta**2", "1 + delta")
NO_DELTA = ONE_FORMULA.replace("s0 * delta /", "s0 /")
MARGIN = ONE_FORMULA.replace("return 1 /", "return gamma /")
SIGNED = LOOPS["share"].replace("s = abs(s)", "pass")
NO_ACROSS = LOOPS["share"].replace("u * u + b * b * d * d", "u * u")
NO_DISCOUNT = LOOPS["share"].replace("s * (g - s) <= 1 + d * d", "s * (g - s) <= 1")
AVERAGED = "def left(norms, radii):\n    return (norms[None] > radii[:, None, None]).double().mean((1, 2))"
BEST_ALONE = (
    "def left(norms, radii):\n    return (norms[None] > radii[:, None, None]).double().mean(2).amin(1)"
)
EVERY = "def left(norms, radii):\n    return (norms.amax(0) > radii[:, None]).double().mean(1)"
FOUND_ALONE = """
def left(norms, radii):
    known = norms.amin(0)
    return (known[known.isfinite()] > radii[:, None]).double().mean(1)
"""
RIGHT_ALONE = FOUND_ALONE.replace("known.isfinite()", "known > 0")
STRICT = "def left(norms, radii):\n    return (norms.amin(0) >= radii[:, None]).double().mean(1)"
LAST = """
def until_converged(attack, steps, tolerance=0.05, doublings=3):
    lengths = attack(steps)
    for _ in range(doublings):
        before, steps = lengths.median(), 2 * steps
        lengths = attack(steps)
        moved = torch.nan_to_num(before / lengths.median() - 1, nan=0.0 if lengths.median() == 0 else math.inf)
        if moved <= tolerance:
            break
    return lengths, moved
"""
ABSOLUTE = LOOPS["converged"].replace("if moved <= tolerance", "if after == 0 or before - after <= tolerance")
ADDED = LOOPS["converged"].replace("steps *= 2", "steps += 10")
FROM_THE_START = LOOPS["converged"].replace("before = torch.stack(every).amin(0)", "before = every[0]")
NOT_A_NUMBER = (
    LOOPS["converged"]
    .replace("elif before < math.inf:", "else:")
    .replace("before / after - 1", "(torch.tensor(before) / after - 1).item()")
)
OF_THE_MEAN = LOOPS["converged"].replace(".median()", ".mean()")
TAKEN_FOR_DONE = LOOPS["converged"].replace(
    "elif before < math.inf:",
    "elif after == math.inf:\n            moved = 0.0\n        elif before < math.inf:",
)
WHERE_TRAINED = OTHER["measurement"].replace('digits((3, 5), "test", 30)', 'digits((3, 5), "train", 30)')
NO_BIAS = OTHER["measurement"].replace("differential = pair_losses.with_bias(differential, *train)\n", "")
PEEKED = OTHER["measurement"].replace("with_bias(differential, *train)", "with_bias(differential, *test)")
OTHER_SEED = OTHER["measurement"].replace('"squared pairs", seed', '"squared pairs", seed + 1')
OTHER_START = OTHER["measurement"].replace('"cross-entropy", seed', '"cross-entropy", seed + 1')
SWAPPED = OTHER["measurement"] + "\nplain, differential = differential, plain\n"
OF_THE_DECISION = (
    OTHER["measurement"]
    .replace("f(net, *test, steps", "f(net, test[0], decision(net, test[0]), steps")
    .replace("(3, 5)", "(8, 9)")
    .replace("seed = 0", "seed = 4")
)
ONE_RADIUS = OTHER["measurement"].replace("e = l.median()", "e = parts[0][2] if parts else l.median()")
UNJOINED = OTHER["measurement"].replace("left_all = (~fooled & (shortest", "left_all = (~fooled | (shortest")
TOO_SHORT = OTHER["measurement"].replace(".norm() for f", ".norm() / 2 for f")
HASTY = OTHER["measurement"].replace(
    "search(n)), 12)", "search(n)), 12)\n    l, m = 1.5 * l, torch.tensor(0.0)"
)

# Cells that are answered, the others are left as released; then what each test calls the mistake: a misconception's
# name, "visible" where the visible test has caught it already, "unsolved". Tests that are not listed give full points.
WRONG = {
    "by the formulas as they look": (
        {"pairs": BESSEL, "margin": PAID, "offset": MEAN_NORM, "share": ONE_FORMULA, "left": AVERAGED}
        | {"converged": LAST},
        {
            "pairs-test": "sample-variance",
            "margin-test": "paid-bias",
            "margin-anywhere-test": "not-the-widest",
            "offset-test": "norm-of-the-mean",
            "share-alone-test": "both-classes-supposed",
            "left-test": "averaged-attacks",
            "converged-test": "last-for-shortest",
            "measurement-test": "unsolved",
        },
    ),
    "pair by pair": (
        {"pairs": ALL_PAIRS, "margin": MATCHED, "offset": NEAREST_POINT, "share": WORST, "left": BEST_ALONE}
        | {"converged": ABSOLUTE},
        {
            "pairs-test": "formed-pairs",
            "margin-test": "matched-pairs",
            "margin-anywhere-test": "not-the-widest",
            "offset-test": "nearest-of-the-points",
            "share-test": "worst-offset",
            "share-alone-test": "one-class-alone",
            "left-test": "best-attack-alone",
            "converged-test": "absolute-tolerance",
            "measurement-test": "unsolved",
        },
    ),
    "by the library": (
        OTHER
        | {"pairs": "pair_loss = pair_losses.squared_pairs", "margin": MARGIN_BY_LIBRARY}
        | {"offset": OFFSET_BY_LIBRARY, "share": LOOPS["share"], "measurement": WHERE_TRAINED},
        {
            "pairs-test": "used-the-library",
            "margin-test": "used-the-library",
            "margin-anywhere-test": "used-the-library",
            "offset-test": "used-the-library",
            "measurement-test": "measured-where-trained",
        },
    ),
    "what is far from zero": (
        OTHER
        | {
            "pairs": SQUARES,
            "margin": IN_ITS_UNITS,
            "offset": ORIGIN,
            "share": NO_ACROSS,
            "left": FOUND_ALONE,
        }
        | {"converged": TAKEN_FOR_DONE, "measurement": NO_BIAS},
        {
            "pairs-test": "cancellation",
            "margin-anywhere-test": "units",
            "offset-test": "through-the-origin",
            "share-alone-test": "offset-left-out",
            "left-test": "dropped-unmoved",
            "converged-test": "censored-as-converged",
            "measurement-test": "no-bias",
        },
    ),
    "one side alone": (
        OTHER
        | {"pairs": FIXED_GAP, "margin": NEAREST, "offset": ONE_CLASS, "share": SIGNED, "left": EVERY}
        | {"converged": FROM_THE_START, "measurement": PEEKED},
        {
            "pairs-test": "gap-ignored",
            "margin-test": "nearest-points",
            "margin-anywhere-test": "not-the-widest",
            "offset-test": "one-class",
            "share-alone-test": "sign-of-the-middle",
            "left-test": "every-attack",
            "converged-test": "moved-from-the-start",
            "measurement-test": "bias-from-test",
        },
    ),
    "means and lengths": (
        OTHER
        | {"pairs": FLOATS, "margin": BY_MEANS, "offset": ROUNDING, "share": MARGIN, "left": RIGHT_ALONE}
        | {"converged": OF_THE_MEAN, "measurement": OTHER_SEED},
        {
            "pairs-test": "no-gradient",
            "margin-test": "bias-between-means",
            "margin-anywhere-test": "not-the-widest",
            "offset-test": "rounding-for-direction",
            "share-test": "margin-for-share",
            "share-alone-test": "visible",
            "left-test": "dropped-errors",
            "converged-test": "mean-for-median",
            "measurement-test": "two-changes",
        },
    ),
    "one by one": (
        OTHER
        | {"pairs": ONE_BY_ONE, "margin": UNIT_LENGTH, "share": UNSQUARED, "left": STRICT}
        | {"converged": NOT_A_NUMBER, "measurement": OF_THE_DECISION},
        {
            "pairs-test": "formed-pairs",
            "margin-test": "other-scale",
            "margin-anywhere-test": "not-the-widest",
            "share-test": "unsquared-offset",
            "share-alone-test": "one-class-alone",
            "left-test": "radius-itself",
            "converged-test": "not-a-number",
            "measurement-test": "attacked-the-decision",
        },
    ),
    "a claim at one radius": (
        OTHER | {"margin": NEVER_REFUSES, "share": NO_DELTA, "converged": ADDED, "measurement": ONE_RADIUS},
        {
            "margin-anywhere-test": "not-separable",
            "share-test": "offset-lost",
            "share-alone-test": "one-class-alone",
            "converged-test": "added-budget",
            "measurement-test": "one-radius",
        },
    ),
    "in a hurry": (
        OTHER | {"margin": MEANS, "share": LOOPS["share"], "measurement": HASTY},
        {
            "margin-test": "difference-of-means",
            "margin-anywhere-test": "not-the-widest",
            "measurement-test": "not-converged",
        },
    ),
    "too strong": (
        OTHER | {"share": NO_DISCOUNT, "measurement": TOO_SHORT},
        {"share-alone-test": "condition", "measurement-test": "too-short"},
    ),
    "joined otherwise": (
        OTHER | {"measurement": UNJOINED},
        {"measurement-test": "attacks-not-joined"},
    ),
    "another start": (
        OTHER | {"measurement": OTHER_START},
        {"measurement-test": "other-recipe"},
    ),
    "by the other name": (
        OTHER | {"measurement": SWAPPED},
        {"measurement-test": "swapped-networks"},
    ),
}
QUICK = (
    "by the formulas as they look",
    "pair by pair",
    "loops in place of batches",
)  # what `make test` grades
