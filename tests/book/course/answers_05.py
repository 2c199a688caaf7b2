"""Answers to assignment 5: right ones by other ways, and wrong ones with what each test has to call them."""

# A draw, a digit, a verdict at a time; plain Python.
LOOPS = {
    "share": """
def share(net, x, sigma, m, draw):
    own = int(decision(net, x.unsqueeze(0)))
    same, left = 0, m
    while left:
        some = min(left, 50)
        z = torch.randn(some, *x.shape, generator=draw)
        same += sum(int(c) == own for c in decision(net, x.unsqueeze(0) + sigma * z))
        left -= some
    return torch.tensor(same / m)
""",
    "first-loss": """
def first_loss(share_at, gamma, start=0.01, cap=32.0):
    kept, lost, s = None, None, start
    if float(share_at(s)) >= gamma:
        while lost is None:
            if s == cap:
                return torch.tensor(float("inf"))
            kept, s = s, min(s * 2, cap)
            if float(share_at(s)) < gamma:
                lost = s
    else:
        for j in range(20):
            lost, s = s, s / 2
            if float(share_at(s)) >= gamma:
                kept = s
                break
        if kept is None:
            return torch.tensor(0.0)
    while lost / kept > 1.0002:
        s = math.sqrt(kept * lost)
        if float(share_at(s)) < gamma:
            lost = s
        else:
            kept = s
    return torch.tensor(math.sqrt(kept * lost))
""",
    "error": """
def standard_error(sigma, k, gamma, m):
    errors = []
    for s, walls_of in zip(sigma.tolist(), k.tolist()):
        d = s * stats.norm.ppf(gamma ** (1 / walls_of))
        p = lambda at: stats.norm.cdf(d / at) ** walls_of
        step = 1e-4 * s
        errors.append(math.sqrt(gamma * (1 - gamma) / m) * 2 * step / abs(p(s + step) - p(s - step)))
    return torch.tensor(errors)
""",
    "sure": """
def sure(hits, m, gamma=0.7, level=0.95):
    weights = [math.comb(m, j) * gamma**j * (1 - gamma) ** (m - j) for j in range(m + 1)]
    said = []
    for h in hits.tolist():
        h = int(h)
        if sum(weights[h:]) <= (1 - level) / 2:
            said.append(1)
        elif sum(weights[: h + 1]) <= (1 - level) / 2:
            said.append(-1)
        else:
            said.append(0)
    return torch.tensor(said)
""",
    "interval": """
def interval(sigma, verdict):
    i, j = 0, len(sigma)
    while i < len(sigma) and verdict[i] > 0.5:
        i += 1
    while j > 0 and verdict[j - 1] < -0.5:
        j -= 1
    low = float(sigma[i - 1]) if i else 0.0
    high = float(sigma[j]) if j < len(sigma) else math.inf
    return torch.tensor([low, high])
""",
    "walls": """
def walls(sigma, d, gamma):
    return torch.tensor([math.log(gamma) / stats.norm.logcdf(b / a) for a, b in zip(sigma.tolist(), d.tolist())])
""",
    "measurement": """
seed, gamma, m = 3, 0.65, 200
net = trained(seed)
images, labels = data.load("mnist", "test")
threes = [i for i in range(len(labels)) if labels[i] in (3, 5)][:60]
threes = [i for i in threes if decision(net, images[i][None])[0] == labels[i]][:20]
x, y = images[threes], labels[threes]
grid = torch.logspace(math.log10(0.01), math.log10(5), 13)
hits = torch.zeros(20, 13)
found, ends = [], []
for i in range(20):
    z = torch.randn(200, 1, 28, 28, generator=generator(i))
    kept = lambda s: (decision(net, x[i] + s * z) == y[i]).double().mean()
    found.append(first_loss(kept, gamma, start=0.08))
    for j in range(13):
        hits[i, j] = m * share(net, x[i], float(grid[j]), m, generator(1000 * i + j))
    hits[i] = hits[i].round()
    ends.append(interval(grid, sure(hits[i], m, gamma=gamma)))
sigma, low, high = torch.stack(found), torch.stack(ends)[:, 0], torch.stack(ends)[:, 1]
margin = margins.deepfool(net, x, tight=20).norm[:, 0]
k_least, k_most = walls(high, margin, gamma), walls(low, margin, gamma)
rank = lambda v: torch.tensor(stats.rankdata(v))
order = torch.corrcoef(torch.stack([rank(margin), rank(sigma)]))[0, 1]
""",
}

# Other formulas and algorithms, in float64 whatever comes in.
OTHER = {
    "share": """
def share(net, x, sigma, m, draw):
    flat = torch.empty(m, x.numel(), dtype=torch.float64).normal_(generator=draw)
    noisy = x.reshape(1, -1) + sigma * flat.to(x.dtype)
    every = torch.cat([x.reshape(1, -1), noisy]).reshape(m + 1, *x.shape)
    labels = decision(net, every)
    return (labels[1:] == labels[0]).sum() / m
""",
    "first-loss": """
def first_loss(share_at, gamma, start=0.01, cap=32.0):
    lost = lambda s: bool(share_at(float(s)) < gamma)
    up = [start]
    while up[-1] < cap:
        up.append(min(2 * up[-1], cap))
    gone = next((j for j, s in enumerate(up) if lost(s)), None)
    if gone is None:
        return torch.tensor(np.inf)
    if gone:
        a, b = up[gone - 1], up[gone]
    else:
        down = [start * 0.5**j for j in range(1, 21)]
        j = next((j for j, s in enumerate(down) if not lost(s)), None)
        if j is None:
            return torch.zeros((), dtype=torch.float64)
        a, b = down[j], 2 * down[j]
    while (b - a) > 1e-5 * a:
        c = 0.5 * a + 0.5 * b
        a, b = (a, c) if lost(c) else (c, b)
    return torch.tensor((a + b) / 2, dtype=torch.float64)
""",
    "error": """
def standard_error(sigma, k, gamma, m):
    s = sigma.double().clone().requires_grad_()
    with torch.enable_grad():
        d = (sigma * torch.special.ndtri(gamma ** (1 / k))).detach()
        p = torch.special.ndtr(d / s) ** k
        slope = torch.autograd.grad(p.sum(), s)[0]
    return (gamma * (1 - gamma) / m) ** 0.5 / slope.abs()
""",
    "sure": """
def sure(hits, m, gamma=0.7, level=0.95):
    h, a = hits.double().numpy(), (1 - level) / 2
    with np.errstate(all="ignore"):
        low = np.where(h > 0, stats.beta.ppf(a, h, m - h + 1), 0.0)
        high = np.where(h < m, stats.beta.ppf(1 - a, h + 1, m - h), 1.0)
    return torch.tensor(np.where(low > gamma, 1, np.where(high < gamma, -1, 0)))
""",
    "interval": """
def interval(sigma, verdict):
    s, v = sigma.double(), verdict.double()
    kept = int((v == 1).long().cumprod(0).sum())
    gone = int((v.flip(0) == -1).long().cumprod(0).sum())
    places = torch.cat([torch.zeros(1), s, torch.full((1,), math.inf)])
    return torch.stack([places[kept], places[len(s) + 1 - gone]])
""",
    "walls": """
def walls(sigma, d, gamma):
    beyond = 0.5 * torch.special.erfc(d.double() / sigma.double() / math.sqrt(2))
    return np.log(gamma) / torch.log1p(-beyond)
""",
    "measurement": LOOPS["measurement"]
    .replace("seed, gamma, m = 3, 0.65, 200", "seed, gamma, m = 1, 0.8, 250")
    .replace("(3, 5)]", "(0, 4, 9)]"),
}
RIGHT = {"loops in place of batches": LOOPS, "other formulas": OTHER}

CLIPPED = OTHER["share"].replace("labels = decision(net, every)", "labels = decision(net, every.clamp(0, 1))")
CLIPPED = CLIPPED.replace("every.clamp(0, 1))", "every.clamp(0, 1) if every.ndim > 2 else every)")
VARIANCE = (
    OTHER["share"].replace("sigma * flat", "sigma**0.5 * flat").replace("sigma**0.5", "math.sqrt(sigma)")
)
MOST = OTHER["share"].replace("labels[1:] == labels[0]", "labels[1:] == labels[1:].mode().values")
OWN_NOISE = OTHER["share"].replace(".normal_(generator=draw)", ".normal_()")
LENGTH = OTHER["share"].replace(
    "noisy =", "flat = flat * x.numel() ** 0.5 / flat.norm(dim=1, keepdim=True)\n    noisy ="
)
ALIKE = OTHER["share"].replace("torch.empty(m, x.numel(), dtype", "torch.empty(m, 1, dtype")
SHARE_BY_LIBRARY = """
def share(net, x, sigma, m, draw):
    count = getattr(persistence, "freq" + "uencies")
    return count(net, x[None], [sigma], draws=m, seed=draw.initial_seed()).stable()[0, 0]
"""

PUBLISHED = """
def first_loss(share_at, gamma, start=0.01, cap=32.0):
    low, high = 0.5, 1.5
    while share_at(low) < gamma:
        low = low / 2
    while share_at(high) > gamma:
        high = 2 * high
    while high - low > 1e-4 * low:
        s = (low + high) / 2
        if share_at(s) > gamma:
            low = s
        else:
            high = s
    return torch.tensor(low)
"""
HALVED = """
def first_loss(share_at, gamma, start=0.01, cap=32.0):
    low, high = start / 2**20, cap
    if share_at(cap) >= gamma:
        return torch.tensor(math.inf)
    if share_at(low) < gamma:
        return torch.tensor(0.0)
    for _ in range(60):
        s = (low + high) / 2
        low, high = (s, high) if share_at(s) >= gamma else (low, s)
    return torch.tensor(low)
"""
CAPPED = OTHER["first-loss"].replace("return torch.tensor(np.inf)", "return torch.tensor(cap)")
CAPPED = CAPPED.replace("(b - a) > 1e-5 * a", "(b - a) > 1e-4")
STEPS = OTHER["first-loss"].replace("(b - a) > 1e-5 * a", "False").replace("(a + b) / 2", "b")
OVERSHOOTS = OTHER["first-loss"].replace("min(2 * up[-1], cap)", "2 * up[-1]")
UNTRIED = OTHER["first-loss"].replace("while up[-1] < cap:", "while 2 * up[-1] <= cap:")
GIVES_UP = OTHER["first-loss"].replace(
    "if gone:", "if gone == 0:\n        return torch.tensor(start)\n    if gone:"
)
STRICT = OTHER["first-loss"].replace("< gamma)", "<= gamma)")
LOSS_BY_LIBRARY = """
def first_loss(share_at, gamma, start=0.01, cap=32.0):
    return torch.tensor(wedges.proposition43(1.0, 1, gamma))
"""

SHARE_ERROR = """
def standard_error(sigma, k, gamma, m):
    if len(k) == 1:
        return 0.08 * sigma
    return math.sqrt(gamma * (1 - gamma) / m) + 0 * sigma
"""
PLANE = """
def standard_error(sigma, k, gamma, m):
    z = stats.norm.ppf(gamma)
    return math.sqrt(gamma * (1 - gamma) / m) * sigma / (stats.norm.pdf(z) * z)
"""
ONE_FACTOR = PLANE.replace("ppf(gamma)", "ppf(gamma ** (1 / k))")
ONE_FACTOR = ONE_FACTOR.replace(
    "* sigma / (stats.norm.pdf(z) * z)", "* sigma / torch.tensor(stats.norm.pdf(z) * z)"
)
NO_EXPONENT = ONE_FACTOR.replace("pdf(z) * z)", "pdf(z) * z) / gamma ** (1 - 1 / k)")
NO_POWER = ONE_FACTOR.replace("pdf(z) * z)", "pdf(z) * z) / k")
FALLS = OTHER["error"].replace("slope.abs()", "(slope if len(k) > 1 else -slope)")

STRICT_TAIL = """
def sure(hits, m, gamma=0.7, level=0.95):
    h, a = hits.numpy(), (1 - level) / 2
    kept, lost = stats.binom.sf(h, m, gamma) <= a, stats.binom.cdf(h, m, gamma) <= a
    return torch.tensor(1 * kept - 1 * lost)
"""
WHOLE_LEVEL = STRICT_TAIL.replace("(1 - level) / 2", "1 - level").replace("sf(h,", "sf(h - 1,")
NORMAL = """
def sure(hits, m, gamma=0.7, level=0.95):
    z = (hits / m - gamma) / math.sqrt(gamma * (1 - gamma) / m)
    far = stats.norm.ppf((1 + level) / 2)
    return 1.0 * (z > far) - 1.0 * (z < -far)
"""
TWO_SIDED = """
def sure(hits, m, gamma=0.7, level=0.95):
    p = [stats.binomtest(int(h), m, gamma).pvalue for h in hits]
    return torch.sign(hits / m - gamma) * (torch.tensor(p) <= 1 - level)
"""
SURE_BY_LIBRARY = """
def sure(hits, m, gamma=0.7, level=0.95):
    ends = [intervals.share(int(h), m, level) for h in hits]
    return torch.tensor([1 if e.low > gamma else -1 if e.high < gamma else 0 for e in ends])
"""

LUCKY = """
def interval(sigma, verdict):
    kept, lost = sigma[verdict == 1], sigma[verdict == -1]
    return torch.stack([kept.max() if len(kept) else torch.tensor(0.0).to(sigma),
                        lost.min() if len(lost) else torch.tensor(math.inf).to(sigma)])
"""
FIRST_LAST = (
    OTHER["interval"].replace("torch.zeros(1)", "s[:1]").replace("torch.full((1,), math.inf)", "s[-1:]")
)
NO_INFINITY = OTHER["interval"].replace("torch.full((1,), math.inf)", "s[-1:]")

ROUNDED_TO_ONE = """
def walls(sigma, d, gamma):
    return math.log(gamma) / torch.log(torch.special.ndtr(d / sigma))
"""
WHOLE = ROUNDED_TO_ONE.replace("return", "return torch.round(").rstrip() + ")\n"
SEVENTY = OTHER["walls"].replace("np.log(gamma)", "np.log(0.7)")
AT_LEAST_ONE = OTHER["walls"].replace("return", "return torch.clamp_min(").rstrip() + ", 1)\n"

SWAPPED = LOOPS["measurement"].replace("k_least, k_most =", "k_most, k_least =")
A_PIXEL = LOOPS["measurement"].replace(".norm[:, 0]", ".norm[:, 0] / 28")
DEFAULT_LEVEL = (
    LOOPS["measurement"].replace("0.65", "0.85").replace("sure(hits[i], m, gamma=gamma)", "sure(hits[i], m)")
)
TAUGHT = LOOPS["measurement"].replace(
    'data.load("mnist", "test")', 'data.load("mnist", "train", 3_000, seed=0)'
)
WRONG_ONES = LOOPS["measurement"].replace("[0] == labels[i]][:20]", "[0] == labels[i]][:19] + [-1]")
WRONG_ONES = WRONG_ONES.replace(
    "x, y =", "threes[-1] = int((decision(net, images) != labels).nonzero()[0])\nx, y ="
)
WRONG_ONES = WRONG_ONES.replace("== y[i])", "== decision(net, x[i : i + 1]))")

# Cells that are answered, the others are left as released; then what each test calls the mistake: a misconception's
# name, "visible" where the visible test has caught it already, "unsolved". Tests that are not listed give full points.
WRONG = {
    "as published": (
        {"share": CLIPPED, "first-loss": PUBLISHED, "error": SHARE_ERROR, "sure": NORMAL}
        | {"interval": LUCKY, "walls": ROUNDED_TO_ONE},
        {
            "share-test": "clipped-noise",
            "first-loss-test": "exactly-gamma",
            "first-loss-ends-test": "visible",
            "error-test": "error-of-the-share",
            "sure-test": "normal-approximation",
            "interval-test": "lucky-look",
            "walls-test": "rounded-to-one",
            "measurement-test": "unsolved",
        },
    ),
    "halved everywhere": (
        {"share": VARIANCE, "first-loss": HALVED, "error": PLANE, "sure": STRICT_TAIL}
        | {"interval": FIRST_LAST, "walls": WHOLE},
        {
            "share-test": "visible",
            "first-loss-test": "last-loss",
            "error-test": "corner-as-plane",
            "sure-test": "count-left-out",
            "interval-test": "first-for-zero",
            "walls-test": "rounded",
            "measurement-test": "unsolved",
        },
    ),
    "without its ends": (
        {"share": MOST, "first-loss": CAPPED, "error": ONE_FACTOR, "sure": WHOLE_LEVEL}
        | {"interval": NO_INFINITY, "walls": SEVENTY},
        {
            "share-test": "most-frequent",
            "first-loss-test": "absolute-tolerance",
            "first-loss-ends-test": "visible",
            "error-test": "slope-of-one-factor",
            "sure-test": "whole-level-on-one-side",
            "interval-test": "last-for-infinity",
            "walls-test": "level-forgotten",
            "measurement-test": "unsolved",
        },
    ),
    "by the library": (
        OTHER
        | {"share": SHARE_BY_LIBRARY, "first-loss": LOSS_BY_LIBRARY, "sure": SURE_BY_LIBRARY}
        | {"error": NO_EXPONENT, "walls": AT_LEAST_ONE, "measurement": "raise NotImplementedError()"},
        {
            "share-test": "used-the-library",
            "first-loss-test": "used-the-library",
            "first-loss-ends-test": "visible",
            "error-test": "exponent-lost",
            "sure-test": "used-the-library",
            "walls-test": "at-least-one",
            "measurement-test": "unsolved",
        },
    ),
    "noise of another kind": (
        {"share": OWN_NOISE, "first-loss": OVERSHOOTS, "error": NO_POWER, "sure": TWO_SIDED},
        {
            "share-test": "generator-ignored",
            "first-loss-ends-test": "beyond-the-cap",
            "error-test": "power-lost",
            "sure-test": "two-sided-p-value",
            "interval-test": "unsolved",
            "walls-test": "unsolved",
            "measurement-test": "unsolved",
        },
    ),
    "steps and lengths": (
        {"share": LENGTH, "first-loss": STEPS, "error": FALLS},
        {
            "share-test": "fixed-length",
            "first-loss-test": "visible",
            "first-loss-ends-test": "last-step",
            "error-test": "negative-error",
            "sure-test": "unsolved",
            "interval-test": "unsolved",
            "walls-test": "unsolved",
            "measurement-test": "unsolved",
        },
    ),
    "ends swapped": (
        OTHER | {"first-loss": UNTRIED, "measurement": SWAPPED},
        {
            "first-loss-ends-test": "cap-not-tried",
            "measurement-test": "ends-swapped",
        },
    ),
    "a margin a pixel": (
        OTHER | {"first-loss": GIVES_UP, "measurement": A_PIXEL},
        {
            "first-loss-test": "start-for-loss",
            "first-loss-ends-test": "start-for-zero",
            "measurement-test": "margin-a-pixel",
        },
    ),
    "another level": (
        OTHER | {"first-loss": STRICT, "measurement": DEFAULT_LEVEL},
        {
            "first-loss-test": "exactly-gamma",
            "measurement-test": "level-forgotten",
        },
    ),
    "digits that taught": (
        OTHER | {"share": ALIKE, "measurement": TAUGHT},
        {
            "share-test": "one-number-for-all",
            "measurement-test": "measured-where-trained",
        },
    ),
    "a digit that it gets wrong": (
        OTHER | {"measurement": WRONG_ONES},
        {"measurement-test": "another-class"},
    ),
}
QUICK = ("as published", "halved everywhere", "loops in place of batches")  # what `make test` grades
