"""Answers to assignment 2: right ones by other ways, and wrong ones with what each test has to call them."""

LOOPS = {
    "cosines": """
def cosines(n):
    C = torch.zeros(n, n)
    for k in range(n):
        for m in range(n):
            C[k, m] = math.sqrt((1 if k == 0 else 2) / n) * math.cos(math.pi / n * k * (m + 0.5))
    return C
""",
    "spectrum": """
def each(x, do):
    images = [do(image) for image in x.reshape(-1, *x.shape[-2:])]
    return torch.stack(images).reshape(x.shape)


def spectrum(x):
    H, W = x.shape[-2:]
    return each(x, lambda image: cosines(H).to(x.dtype) @ image @ cosines(W).to(x.dtype).T)


def pixels(c):
    H, W = c.shape[-2:]
    return each(c, lambda image: cosines(H).to(c.dtype).T @ image @ cosines(W).to(c.dtype))
""",
    "flip": """
def flip(x):
    c = spectrum(x)
    H, W = c.shape[-2:]
    turned = torch.zeros_like(c)
    for i in range(H):
        for j in range(W):
            turned[..., i, j] = c[..., H - 1 - i, W - 1 - j]
    return pixels(turned)
""",
    "window": """
def window(shape, i, K):
    basis = []
    for channel in range(shape[0]):
        for k in range(K):
            for l in range(K):
                c = torch.zeros(shape)
                c[channel, i + k, i + l] = 1
                basis.append(pixels(c))
    return torch.stack(basis)
""",
    "starts": """
def starts(shape, K, T):
    found, i = [], 0
    while i + K <= shape[1] and i + K <= shape[2]:
        found.append(i)
        i += T
    return found
""",
    "affine": """
def affine_margins(w, b, x, bases):
    table = torch.zeros(len(x), len(bases))
    for n, image in enumerate(x):
        logits = [float((w[k] * image).sum() + b[k]) for k in range(len(w))]
        own = logits.index(max(logits))
        for j, basis in enumerate(bases):
            nearest = math.inf
            for k in range(len(w)):
                inside = math.sqrt(sum(float((pattern * (w[k] - w[own])).sum()) ** 2 for pattern in basis))
                if k != own and inside > 1e-6:
                    nearest = min(nearest, (logits[own] - logits[k]) / inside)
            table[n, j] = nearest
    return table
""",
    "profile": """
def profile(net, x, bases):
    medians = []
    for basis in bases:
        lengths = sorted(margins.deepfool(net, x, spectra.span(*basis)).norm[:, 0].tolist())
        medians.append(lengths[len(lengths) // 2])
    return torch.tensor(medians)
""",
    "overlap": """
def overlap(one, other):
    total = 0.0
    for a in one:
        for b in other:
            total += float((a * b).sum()) ** 2
    return torch.tensor(total / len(one))
""",
    "following": """
def following(p, q, r):
    stay, follow = [], []
    for a, b, c in zip(p.tolist(), q.tolist(), r.tolist()):
        if max(a, b, c) < math.inf:
            stay.append(abs(math.log(b / a)))
            follow.append(abs(math.log(c / a)))
    stay, follow = sum(stay) / len(stay), sum(follow) / len(follow)
    return torch.tensor((stay - follow) / (stay + follow))
""",
    "measurement": """
order = torch.randperm(784, generator=torch.Generator().manual_seed(0))

def move(x):
    return x.flatten(1)[:, order].reshape(x.shape)

seed = 3
x, y = data.load("mnist", "train", 800, seed=seed)
digits = data.load("mnist", "test", 15, seed=seed)[0]
bases = [window((1, 28, 28), i, 8) for i in starts((1, 28, 28), 8, 5)]
plain = fitted(x, y, MEAN, seed)
moved = fitted(move(x), y, move(MEAN[None])[0], seed)
p = profile(plain, digits, bases)
q = profile(moved, move(digits), bases)
r = profile(moved, move(digits), [move(basis) for basis in bases])
score = following(p, q, r)
""",
}

# In float64 whatever comes in, and by other ways: spectra and subspaces where they are allowed.
FLOAT64 = {
    "cosines": """
import numpy as np

def cosines(n):
    k, m = np.mgrid[:n, :n]
    C = np.cos(np.pi * k * (2 * m + 1) / (2 * n))
    return torch.tensor(C / np.linalg.norm(C, axis=1, keepdims=True))
""",
    "spectrum": """
def spectrum(x):
    return torch.einsum("ih,...hw,jw->...ij", cosines(x.shape[-2]), x.double(), cosines(x.shape[-1]))

def pixels(c):
    return torch.einsum("ih,...ij,jw->...hw", cosines(c.shape[-2]), c.double(), cosines(c.shape[-1]))
""",
    "flip": """
def flip(x):
    tall, wide = (cosines(n).T @ cosines(n).flip(0) for n in x.shape[-2:])
    return tall @ x.double() @ wide.T
""",
    "window": """
def window(shape, i, K):
    C, H, W = shape
    one = torch.eye(H * W, dtype=torch.float64).reshape(H, W, H, W)[i : i + K, i : i + K].reshape(-1, H, W)
    every = torch.zeros(C, K * K, C, H, W, dtype=torch.float64)
    for channel in range(C):
        every[channel, :, channel] = -spectra.idct2(one).flip(0)
    return every.flatten(0, 1)
""",
    "starts": """
def starts(shape, K, T):
    return T * torch.arange((min(shape[-2:]) - K) // T + 1)
""",
    "affine": """
def affine_margins(w, b, x, bases):
    w, b, x = w.double(), b.double(), x.double()
    logits = torch.einsum("nchw,kchw->nk", x, w) + b
    best, own = logits.max(1)
    margins_found = torch.full((len(x), len(bases)), math.inf, dtype=torch.float64)
    for j, basis in enumerate(bases):
        space = spectra.span(*basis)
        for k in range(len(w)):
            slope = space.project(w[k] - w[own]).flatten(1).norm(dim=1)
            away = (best - logits[:, k]) / slope
            away[(own == k) | (slope < 1e-9)] = math.inf
            margins_found[:, j] = torch.minimum(margins_found[:, j], away)
    return margins_found
""",
    "profile": """
import copy

def profile(net, x, bases):
    if isinstance(net, torch.nn.Module):
        net = copy.deepcopy(net).double()
    spaces = [spectra.span(*basis) for basis in bases]
    return margins.deepfool(net, x.double(), spaces).quantile(0.5)
""",
    "overlap": """
def overlap(one, other):
    return spectra.energy(one, [spectra.span(*other)]).mean()
""",
    "following": """
def following(p, q, r):
    logs = torch.stack([p, q, r]).double().log2()
    logs = logs[:, logs.isfinite().all(0)]
    stay, follow = (logs[1:] - logs[0]).abs().sum(1)
    return (stay - follow) / (stay + follow)
""",
    "measurement": """
def move(x):
    return pixels(spectrum(x).roll((14, 14), (-2, -1)))

seed = 0
x, y = data.load("mnist", "train", 1_000, seed=5)
digits = data.load("mnist", "test", 31, seed=5)[0]
bases = [window((1, 28, 28), i, 4) for i in starts((1, 28, 28), 4, 6)]
plain, moved = fitted(x, y, MEAN, seed), fitted(move(x), y, move(MEAN[None])[0], seed)
p = profile(plain, digits, bases)
q, r = (profile(moved, move(digits), of) for of in (bases, [move(basis) for basis in bases]))
score = following(p, q, r)
""",
}
RIGHT = {"loops in place of batches": LOOPS, "float64": FLOAT64}

UNSCALED = (
    "def cosines(n):\n    k = torch.arange(n)\n    return torch.cos(math.pi / n * k[:, None] * (k + 0.5))"
)
SAME_FACTOR = UNSCALED.replace("return ", "return math.sqrt(2 / n) * ")
AT_EDGES = LOOPS["cosines"].replace("(m + 0.5)", "m")
BY_LIBRARY = "def cosines(n):\n    return getattr(spectra, 'dct_' + 'matrix')(n)"
COLUMNS = LOOPS["cosines"].replace("C[k, m]", "C[m, k]")
FOR_SQUARES = """
def spectrum(x):
    C = cosines(x.shape[-1]).to(x)
    return C @ x @ C.T


def pixels(c):
    C = cosines(c.shape[-1]).to(c)
    return C.T @ c @ C
"""
SAME_WAY = LOOPS["spectrum"].replace(
    "cosines(H).to(c.dtype).T @ image @ cosines(W).to(c.dtype)", "spectrum(image)"
)
UNTURNED = LOOPS["spectrum"].replace("cosines(W).to(x.dtype).T", "cosines(W).to(x.dtype)")
ROWS_ONLY = LOOPS["spectrum"].replace(" @ image @ cosines(W).to(x.dtype).T", " @ image")
PIXEL_FLIP = "def flip(x):\n    return x.flip(-2, -1)"
FIRST_AXES = """
def flip(x):
    c = spectrum(x)
    return pixels(c.flip(-2, -1) if c.ndim == 2 else c.flip(0, 1))
"""
HALF = "def flip(x):\n    return spectra.idct2(spectra.dct2(x).flip(-1))"
ROLLED = """
def flip(x):
    c = spectra.dct2(x)
    return spectra.idct2(c.roll((c.shape[-2] // 2, c.shape[-1] // 2), (-2, -1)))
"""
FLIP_BY_LIBRARY = "from tightrope import views\n\ndef flip(x):\n    return views.WAYS['flipped'](x)"
PATTERNS = LOOPS["window"].replace("pixels", "spectra.idct2")
ATOMS = PATTERNS.replace("for l in range(K):", "for l in [k]:")
LOW_PASS = PATTERNS.replace("range(K)", "range(i + K)").replace("i + k, i + l", "k, l")
GREY = PATTERNS.replace("range(shape[0])", "[slice(None)]")
NUMBERED = PATTERNS.replace("i + k, i + l", "i * K + k, i * K + l")
ENDS_AT_K = PATTERNS.replace("range(K)", "range(K - i)")
STOPS_EARLY = "def starts(shape, K, T):\n    return range(0, min(shape[1:]) - K, T)"
TO_THE_LONGER = STOPS_EARLY.replace("min(shape[1:]) - K", "max(shape[1:]) - K + 1")
UNSLID = STOPS_EARLY.replace("range(0, min(shape[1:]) - K, T)", "range(0, min(shape[1:]) - K + 1, K)")
ONE_RIVAL = """
def affine_margins(w, b, x, bases):
    w, x = w.flatten(1), x.flatten(1)
    two = (x @ w.T + b).topk(2, dim=1)
    v = w[two.indices[:, 1]] - w[two.indices[:, 0]]
    lead = two.values[:, 0] - two.values[:, 1]
    return torch.stack([lead / (v @ basis.flatten(1).T).norm(dim=1) for basis in bases], 1)
"""
WHOLE = LOOPS["affine"].replace(
    "sum(float((pattern * (w[k] - w[own])).sum()) ** 2 for pattern in basis)",
    "float((w[k] - w[own]).square().sum())",
)
ENERGY = LOOPS["affine"].replace("/ inside)", "/ inside**2)")
PARTED = """
def affine_margins(w, b, x, bases):
    columns = []
    for basis in bases:
        B = basis.flatten(1)
        W, at = w.flatten(1) @ B.T, x.flatten(1) @ B.T
        logits = at @ W.T + b
        own = logits.argmax(1)
        far = (logits.max(1).values[:, None] - logits) / (W - W[own][:, None]).norm(dim=2)
        columns.append(far.nan_to_num(nan=math.inf).min(1).values)
    return torch.stack(columns, 1)
"""
AS_ZERO_THERE = LOOPS["affine"].replace(
    "table[n, j] = nearest", "table[n, j] = nearest if nearest < 1e9 else 0"
)
FROM_CLASS_0 = """
def affine_margins(w, b, x, bases):
    w, x = w.flatten(1), x.flatten(1)
    f = x @ w.T + b
    far = [(f[:, 1:] - f[:, :1]).abs() / ((w[1:] - w[0]) @ basis.flatten(1).T).norm(dim=1) for basis in bases]
    return torch.stack([of.min(1).values for of in far], 1)
"""
MARGINS_BY_LIBRARY = """
def affine_margins(w, b, x, bases):
    net = lambda x: x.flatten(1) @ w.flatten(1).T + b
    return margins.deepfool(net, x, [spectra.span(*basis) for basis in bases]).norm
"""
RAW = "def profile(net, x, bases):\n    found = margins.deepfool(net, x, [spectra.span(*basis) for basis in bases])\n"
MEANS = RAW + "    return found.norm.mean(0)"
DROPS = RAW + "    return torch.stack([m[m.isfinite()].median() for m in found.norm.T])"
AS_ZERO = RAW + "    return torch.where(found.found, found.norm, 0).median(0).values"
RAW += "    return found.raw.median(0).values"
PAIRED = "def overlap(one, other):\n    return (one * other).flatten(1).sum(1).square().mean()"
SUMMED = "def overlap(one, other):\n    return (one.flatten(1) @ other.flatten(1).T).square().sum()"
OVER_PAIRS = SUMMED.replace("sum()", "mean()")
LENGTHS = SUMMED.replace("square().sum()", "norm(dim=1).mean()")
WITH_INFINITE = """
def following(p, q, r):
    stay, follow = (q / p).log().abs().mean(), (r / p).log().abs().mean()
    return (stay - follow) / (stay + follow)
"""
TURNED = LOOPS["following"].replace("stay - follow", "follow - stay")
SUBTRACTED = LOOPS["following"].replace("math.log(b / a)", "b - a").replace("math.log(c / a)", "c - a")
CANCELLING = WITH_INFINITE.replace("log().abs().mean()", "log().mean().abs()")
EACH_ALONE = """
def following(p, q, r):
    apart = lambda of: (of / p).log().abs()[of.isfinite() & p.isfinite()].mean()
    return (apart(q) - apart(r)) / (apart(q) + apart(r))
"""

OWN = LOOPS["measurement"].replace(
    "window((1, 28, 28), i, 8)", "spectra.dct_block((1, 28, 28), i, i, 8).basis()"
)
OWN = OWN.replace("starts((1, 28, 28), 8, 5)", "(0, 5, 10, 15, 20)")
LINE = "return x.flatten(1)[:, order].reshape(x.shape)"
MIRROR = OWN.replace(LINE, "return x.flip(-1)")
QUARTER = OWN.replace(LINE, "return x.mT.flip(-1)")
EVERY_TIME = OWN.replace(LINE, "return x.flatten(1)[:, torch.randperm(784)].reshape(x.shape)")
INVERTED = OWN.replace(LINE, "return 1 - x")
IN_PLACE = OWN.replace(
    LINE, "x *= 1 - 2 * ((torch.arange(28)[:, None] + torch.arange(28)) % 2)\n    return x"
)
CHESS = OWN.replace(LINE, "return x * (1 - 2 * ((torch.arange(28)[:, None] + torch.arange(28)) % 2))")
CHAPTERS = OWN.replace(LINE, "return spectra.flip(x)")
MEAN_STAYS = CHESS.replace("move(MEAN[None])[0]", "MEAN")
OTHER_SEED = OWN.replace("fitted(x, y, MEAN, seed)", "fitted(x, y, MEAN, seed + 1)")
AT_PLAIN = CHESS.replace("profile(moved, move(digits)", "profile(moved, digits")
NOT_CARRIED = OWN.replace("[move(basis) for basis in bases]", "bases")
SWAPPED = OWN + "q, r = r, q\n"
SEEN = OWN.replace('data.load("mnist", "test", 15, seed=seed)[0]', "x[:15]")

# Cells that are answered, the others are left as released; then what each test calls the mistake: a misconception's
# name, "visible" where the visible test has caught it already, "unsolved". Tests that are not listed give full points.
WRONG = {
    "of other lengths": (
        {"cosines": UNSCALED, "spectrum": LOOPS["spectrum"], "flip": LOOPS["flip"], "window": LOOPS["window"]}
        | {"starts": STOPS_EARLY, "affine": ONE_RIVAL, "profile": MEANS, "overlap": PAIRED}
        | {"following": WITH_INFINITE},
        {
            "cosines-test": "forgotten-scaling",
            "flip-test": "wrong-transform-below",
            "window-test": "not-orthonormal",
            "starts-test": "last-window-lost",
            "affine-test": "one-rival-for-all-windows",
            "profile-test": "mean-for-median",
            "overlap-test": "vector-by-vector",
            "following-test": "infinite-windows",
            "measurement-test": "unsolved",
        },
    ),
    "one factor for all": (
        {"cosines": SAME_FACTOR, "spectrum": FOR_SQUARES, "flip": PIXEL_FLIP, "window": ATOMS}
        | {"starts": TO_THE_LONGER, "affine": WHOLE, "profile": RAW, "overlap": SUMMED, "following": TURNED},
        {
            "cosines-test": "first-row",
            "spectrum-test": "square-only",
            "flip-test": "visible",
            "window-test": "diagonal-for-block",
            "starts-test": "beyond-the-edge",
            "affine-test": "whole-gradient",
            "profile-test": "raw-for-refined",
            "overlap-test": "not-averaged",
            "following-test": "turned-round",
            "measurement-test": "unsolved",
        },
    ),
    "at the edges": (
        LOOPS
        | {"cosines": AT_EDGES, "flip": HALF, "window": FLOAT64["window"], "starts": UNSLID}
        | {"affine": ENERGY, "profile": DROPS, "overlap": OVER_PAIRS, "following": SUBTRACTED}
        | {"measurement": MIRROR},
        {
            "cosines-test": "half-sample",
            "flip-test": "half-flip",
            "starts-test": "side-by-side",
            "affine-test": "energy-for-length",
            "profile-test": "dropped-censored",
            "overlap-test": "averaged-over-pairs",
            "following-test": "differences-for-ratios",
            "measurement-test": "moves-no-window",
        },
    ),
    "by the library": (
        LOOPS
        | {"cosines": BY_LIBRARY, "flip": FLIP_BY_LIBRARY, "affine": MARGINS_BY_LIBRARY}
        | {"profile": AS_ZERO, "overlap": LENGTHS, "following": CANCELLING, "measurement": NOT_CARRIED}
        | {"window": FLOAT64["window"]},
        {
            "cosines-test": "used-the-library",
            "spectrum-test": "used-the-library",
            "flip-test": "used-the-library",
            "affine-test": "used-the-library",
            "profile-test": "censored-as-zero",
            "overlap-test": "unsquared",
            "following-test": "cancelling",
            "measurement-test": "not-carried",
        },
    ),
    "of the wrong axes": (
        LOOPS
        | {
            "flip": FIRST_AXES,
            "window": GREY,
            "affine": PARTED,
            "following": EACH_ALONE,
            "measurement": IN_PLACE,
        },
        {
            "flip-test": "wrong-axes",
            "window-test": "channels-together",
            "affine-test": "projected-image",
            "following-test": "other-windows",
            "measurement-test": "changed-in-place",
        },
    ),
    "from frequency 0": (
        LOOPS
        | {"spectrum": SAME_WAY, "flip": ROLLED, "window": LOW_PASS, "affine": AS_ZERO_THERE}
        | {"measurement": EVERY_TIME},
        {
            "spectrum-test": "same-way-back",
            "flip-test": "rolled",
            "window-test": "low-pass-for-window",
            "affine-test": "unreachable",
            "measurement-test": "another-every-time",
        },
    ),
    "by columns": (
        LOOPS
        | {"cosines": COLUMNS, "spectrum": UNTURNED, "flip": FLIP_BY_LIBRARY, "window": ENDS_AT_K}
        | {"affine": FROM_CLASS_0, "measurement": INVERTED},
        {
            "cosines-test": "columns-for-rows",
            "spectrum-test": "untransposed",
            "flip-test": "used-the-library",
            "window-test": "ends-at-k",
            "affine-test": "class-zero",
            "measurement-test": "not-an-isometry",
        },
    ),
    "along one side": (
        LOOPS | {"spectrum": ROWS_ONLY, "flip": HALF, "window": NUMBERED, "measurement": MEAN_STAYS},
        {
            "spectrum-test": "one-axis",
            "flip-test": "half-flip",
            "window-test": "window-number",
            "measurement-test": "mean-left-behind",
        },
    ),
    "a quarter turn": (LOOPS | {"measurement": QUARTER}, {"measurement-test": "moves-no-window"}),
    "the chapter's": (LOOPS | {"measurement": CHAPTERS}, {"measurement-test": "chapters-flip"}),
    "two seeds": (LOOPS | {"measurement": OTHER_SEED}, {"measurement-test": "other-recipe"}),
    "at plain digits": (LOOPS | {"measurement": AT_PLAIN}, {"measurement-test": "unmoved-digits"}),
    "at seen digits": (LOOPS | {"measurement": SEEN}, {"measurement-test": "measured-where-trained"}),
    "in each other's place": (LOOPS | {"measurement": SWAPPED}, {"measurement-test": "swapped-windows"}),
}
QUICK = ("of other lengths", "one factor for all", "float64")  # what `make test` grades
