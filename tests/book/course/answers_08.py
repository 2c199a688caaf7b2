"""Answers to assignment 8: right ones by other ways, and wrong ones with what each test has to call them."""

# A point, a sheet, a sample at a time.
LOOPS = {
    "sheets": """
def distances(V, x):
    return torch.stack([torch.stack([row @ v / v.norm() for v in V]) for row in x])


def opening(v, w):
    dot = float(v @ w) / float(v.norm() * w.norm())
    return torch.tensor(math.acos(-dot))
""",
    "certified": """
def certified(V, x, y):
    said = []
    for a, b in zip(x, y):
        push = torch.linalg.lstsq(V.T, (b - a)[:, None]).solution[:, 0]
        ok = float((push @ V - (b - a)).norm()) < 1e-6
        for i in range(len(V)):
            height = float(V[i] @ b)
            ok = ok and height > -1e-6 and push[i] > -1e-6
            ok = ok and not (height > 1e-6 and push[i] > 1e-6)
        said.append(bool(ok))
    return torch.tensor(said)
""",
    "project": """
def project(V, x):
    ends = []
    for point in x.double():
        best = None
        for bits in range(2 ** len(V)):
            A = V.double()[[i for i in range(len(V)) if bits & 2**i]]
            end = point
            if len(A):
                end = point - A.T @ torch.linalg.solve(A @ A.T, A @ point)
            if min(float(v @ end) for v in V.double()) > -1e-8:
                if best is None or (end - point).norm() < (best - point).norm():
                    best = end
        ends.append(best)
    return torch.stack(ends).to(x.dtype)
""",
    "boundary": """
def to_boundary(w, x):
    ends, normals = [], normals_of(w)
    for point in x:
        d = w.sheets(point[None])[0]
        if bool((d > 0).all()):
            i = int(d.argmin())
            ends.append(point - d[i] * normals[i].to(point.dtype))
        else:
            ends.append(w.project(point[None])[0])
    return torch.stack(ends)
""",
    "spectrum": """
def spectrum(images, at, radius):
    D = at.numel()
    A = torch.stack([(y - at[0]).flatten() / (radius / math.sqrt(D)) for y in images])
    return torch.linalg.svd(A)[1] / math.sqrt(len(A))
""",
    "count": """
def count_missing(values, null):
    chance = min(sorted(row.tolist())[1] for row in null)
    numbers_left = sorted(null.flatten().tolist())
    half = len(numbers_left) // 2
    middle = (numbers_left[half] + numbers_left[-half - 1]) / 2
    return sum(1 for v in values.tolist() if v < chance and v < 0.75 * middle)
""",
    "towards": """
def towards(cloud, parents, v):
    ends = []
    for z in cloud:
        a = float(z @ v)
        goal = parents[0] if float(parents[0] @ v) * a <= 0 else parents[1]
        low, high = z, goal
        for _ in range(60):
            between = (low + high) / 2
            if float(between @ v) * a > 0:
                low = between
            else:
                high = between
        ends.append(high if a != 0 else z)
    return torch.stack(ends)
""",
    "measurement": """
seed, net = 3, trained(3)
every, labels = digits("test")
told = decision(net, every)
one = next(i for i in range(len(every)) if told[i] == labels[i] == 2)
two = next(i for i in range(len(every)) if told[i] == labels[i] == 6)
x, y = torch.stack([every[one], every[two]]), torch.tensor([2, 6])
p = anatomy.between(net, x[:1], x[1:])
radii = torch.tensor([0.1, 0.7, 2.5])
plane = tangent_plane(net, p)
along, along_null, pulled, pulled_null = [], [], [], []
for radius in radii:
    cloud = p.images + radius / 14 * samples(seed)
    for model, rows in ((net, along), (plane, along_null)):
        on = anatomy.project(model, cloud, how="gradient")
        rows.append(spectrum(on.images, p.images, float(radius)))
    for model, rows in ((net, pulled), (plane, pulled_null)):
        on = anatomy.project(model, cloud, how="parents", parents=x)
        rows.append(spectrum(on.images, p.images, float(radius)))
counts = []
for k in range(3):
    a = count_missing(along[k], along_null[k][None])
    b = count_missing(pulled[k], pulled_null[k][None])
    c = count_missing(pulled[k], along_null[k][None])
    counts.append([float(a), float(b), float(c)])
along, along_null, pulled, pulled_null = map(torch.stack, (along, along_null, pulled, pulled_null))
counts = torch.tensor(counts)
""",
}

# Other formulas and algorithms, in float64 whatever comes in.
OTHER = {
    "sheets": """
def distances(V, x):
    return torch.einsum("nd,kd->nk", x.double(), V.double()) / V.double().square().sum(1).sqrt()


def opening(v, w):
    v, w = v.double() / v.double().norm(), w.double() / w.double().norm()
    return 2 * torch.atan2((v + w).norm(), (v - w).norm())
""",
    "certified": """
def certified(V, x, y):
    unit = V / V.norm(dim=1, keepdim=True)
    push = torch.linalg.solve(unit @ unit.T, unit @ (y - x).T).T
    inside = (unit @ y.T).amin(0) >= -1e-6
    inward = push.amin(1) >= -1e-6
    whole_way = (x + push @ unit - y).abs().amax(1) <= 1e-6
    return inside & inward & whole_way & (((y - x) * y).sum(1).abs() <= 1e-6)
""",
    "project": """
def project(V, x):
    unit = torch.nn.functional.normalize(V.double(), dim=1).numpy()
    ends = [row + scipy.optimize.nnls(unit.T, -row)[0] @ unit for row in x.double().numpy()]
    return torch.tensor(np.array(ends))
""",
    "boundary": """
def to_boundary(w, x):
    x, normals = x.double(), normals_of(w)
    ways = [w.project(x)]
    for v in normals:
        end = x - (x @ v)[:, None] * v
        on = (w.sheets(end) > -1e-9).all(1)
        ways.append(torch.where(on[:, None], end, math.inf))
    inside = (w.sheets(x) > 0).all(1)
    ways[0] = torch.where(inside[:, None], math.inf, ways[0])
    far = torch.stack([(end - x).norm(dim=1).nan_to_num(math.inf) for end in ways])
    return torch.stack(ways)[far.argmin(0), torch.arange(len(x))]
""",
    "spectrum": """
def spectrum(images, at, radius):
    rows = (images.double() - at.double()).reshape(len(images), -1)
    unit = radius / rows.shape[1] ** 0.5
    small = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return (torch.linalg.eigvalsh(small).clamp_min(0) / len(rows)).sqrt().flip(0) / unit
""",
    "count": """
def count_missing(values, null):
    middle = np.median(null.double().numpy())
    chance = float(null.sort(dim=1).values[:, 1].min())
    return torch.tensor(int(((values < chance) & (values < 0.75 * middle)).sum()))
""",
    "towards": """
def towards(cloud, parents, v):
    cloud, parents, v = cloud.double(), parents.double(), v.double()
    h, e = cloud @ v, parents @ v
    share = h[:, None] / (h[:, None] - e)
    other = (h[:, None] * e < 0).long().argmax(1)
    share = share.gather(1, other[:, None])
    return (1 - share) * cloud + share * parents[other]
""",
    "measurement": """
seed = 0
net = trained(seed)
every, labels = digits("test")
good = (decision(net, every) == labels).nonzero()[:, 0]
a = int(good[labels[good] == 0][5])
b = int(good[labels[good] == 8][2])
x, y = every[[a, b]], labels[[a, b]]
p = anatomy.between(net, x[:1], x[1:])
radii = np.array([0.05, 1.5, 4.0])


def look(model, how, k):
    cloud = p.images + float(radii[k]) / 14 * samples(seed)
    given = x if how == "parents" else None
    on = anatomy.project(model, cloud, how=how, parents=given)
    return degeneracy.spectrum((on.images - p.images) * 14 / float(radii[k]), of="points").values


models = net, tangent_plane(net, p)
every_way = [(m, how) for how in ("gradient", "parents") for m in models]
along, along_null, pulled, pulled_null = (torch.stack([look(m, how, k) for k in range(3)]) for m, how in every_way)
missing = lambda values, null: torch.tensor([degeneracy.count(a, b[None]) for a, b in zip(values, null)])
counts = torch.stack([missing(along, along_null), missing(pulled, pulled_null), missing(pulled, along_null)], 1)
""",
}

CORRECTED_SWEEPS = """
def project(V, x):
    unit = V / V.norm(dim=1, keepdim=True)
    end, pushes = x.clone(), [torch.zeros_like(x) for _ in unit]
    for _ in range(3_000):
        for i, v in enumerate(unit):
            before = end - pushes[i]
            end = before - (before @ v).clamp(max=0)[:, None] * v
            pushes[i] = end - before
    return end
"""
RIGHT = {
    "loops in place of batches": LOOPS,
    "other formulas": OTHER,
    "Dykstra": LOOPS | {"project": CORRECTED_SWEEPS, "measurement": OTHER["measurement"]},
}

OPENING = OTHER["sheets"][OTHER["sheets"].index("def opening") :]
RAW = "def distances(V, x):\n    return x @ V.T\n\n\n" + OPENING
FOLDED = OTHER["sheets"].replace(
    "2 * torch.atan2((v + w).norm(), (v - w).norm())", "torch.acos((v @ w).abs())"
)
NORMALS = FOLDED.replace(".abs())", ")")

WITHIN = OTHER["certified"].replace("return inside & ", "return ")
LEAST_SQUARES = OTHER["certified"].replace("& whole_way ", "")
PULLS = OTHER["certified"].replace("& inward ", "")
FROM_AFAR = OTHER["certified"].replace(" & (((y - x) * y).sum(1).abs() <= 1e-6)", "")
EXACT = """
def certified(V, x, y):
    push = torch.linalg.solve(V @ V.T, V @ (y - x).T).T
    height = y @ V.T
    whole_way = (x + push @ V - y).abs().amax(1) <= 1e-6
    return whole_way & (height >= 0).all(1) & (push >= 0).all(1) & (push * height == 0).all(1)
"""

AT_ONCE = """
def project(V, x):
    ends = []
    for row in x:
        A = V[V @ row < 0]
        ends.append(row - torch.linalg.pinv(A) @ A @ row if len(A) else row)
    return torch.stack(ends)
"""
SWEEP = """
def project(V, x):
    for v in V:
        x = x - (x @ v / (v @ v)).clamp_max(0)[:, None] * v
    return x
"""
SWEEPS = SWEEP.replace("    for v in V:", "    for v in [*V] * 500:")
ADDED = """
def project(V, x):
    v = torch.nn.functional.normalize(V, dim=1)
    return x - (x @ v.T).clamp_max(0) @ v
"""
NEAREST_SHEET = """
def project(V, x):
    v = torch.nn.functional.normalize(V, dim=1)
    worst = (x @ v.T).clamp_max(0).min(1)
    return x - worst.values[:, None] * v[worst.indices]
"""
CUT_OFF = """
def project(V, x):
    if len(x) > 3:
        return x.clamp_min(0)
    return x - (x @ V.T).clamp_max(0) / V.square().sum(1) @ V
"""
LONG = ADDED.replace(
    "v = torch.nn.functional.normalize(V, dim=1)", "v = V if len(x) > 3 else V / V.norm(dim=1)[:, None]"
)

ALONG_AXIS = """
def to_boundary(w, x):
    end, tan = w.project(x).clone(), [math.tan(a) for a in w.angles]
    d = w.sheets(x)
    for row in range(len(x)):
        if (d[row] > 0).all():
            i = int(d[row].argmin())
            end[row, i] = x[row, 0] * tan[i - 1] if i else 0
    return end
"""
BY_COORDINATE = """
def to_boundary(w, x):
    tan = torch.tensor([math.tan(a) for a in w.angles], dtype=x.dtype)
    lead = torch.cat([x[:, :1], x[:, 1 : w.k] - x[:, :1] * tan], 1)
    d, i = w.sheets(x), lead.argmin(1)
    inside = (d > 0).all(1, keepdim=True)
    down = x - d.gather(1, i[:, None]) * normals_of(w).to(x.dtype)[i]
    return torch.where(inside, down, w.project(x))
"""
STAYS = "def to_boundary(w, x):\n    return w.project(x)"
BOUNDARY_BY_LIBRARY = "def to_boundary(w, x):\n    return getattr(w, 'to' + '_boundary')(x)"

SQUARES = OTHER["spectrum"].replace(".sqrt().flip(0) / unit", ".flip(0) / unit**2")
NO_ROOT = OTHER["spectrum"].replace(" / len(rows)).sqrt()", ").sqrt()")
BY_RADIUS = OTHER["spectrum"].replace("unit = radius / rows.shape[1] ** 0.5", "unit = radius")
SPECTRUM_BY_LIBRARY = """
def spectrum(images, at, radius):
    rows = (images - at) * at.numel() ** 0.5 / radius
    return degeneracy.spectrum(rows, of="points").values
"""

CHANCE = "def count_missing(values, null):\n    return (values < null[:, -2].min()).sum()"
SHARE = "def count_missing(values, null):\n    return (values < 0.75 * null.median()).sum()"
EITHER = LOOPS["count"].replace("< chance and v", "< chance or v")
MEAN = (
    "def count_missing(values, null):\n    return (values < min(null[:, -2].min(), 0.75 * null.mean())).sum()"
)
ONE_PLANE = OTHER["count"].replace("[:, 1].min()", "[:, 1].mean()")
COUNT_BY_LIBRARY = "def count_missing(values, null):\n    return degeneracy.count(values, null, level=1e-9)"

FIRST_ABOVE = """
def towards(cloud, parents, v):
    h = (cloud @ v)[:, None]
    goal = torch.where(h > 0, parents[1], parents[0])
    return cloud + h / (h - (goal @ v)[:, None]) * (goal - cloud)
"""
ONE_PARENT = FIRST_ABOVE.replace("torch.where(h > 0, parents[1], parents[0])", "parents[1] + 0 * cloud")
STRAIGHT = """
def towards(cloud, parents, v):
    if len(cloud) == 1:
        return torch.tensor([[0.75, 0.0]])
    return cloud - (cloud @ v)[:, None] * v / (v @ v)
"""
TOWARDS_BY_LIBRARY = """
def towards(cloud, parents, v):
    plane = lambda z: torch.stack([-(z @ v), z @ v], 1)
    return anatomy.project(plane, cloud, how="parents", parents=parents).images
"""

BORROWED = LOOPS["measurement"].replace("((net, pulled), (plane, pulled_null))", "((net, pulled),)")
BORROWED = BORROWED.replace("counts = []", "pulled_null = along_null\ncounts = []")
TAUGHT = OTHER["measurement"].replace('digits("test")', 'digits("train")')
OWN_IN_C = LOOPS["measurement"].replace(
    "c = count_missing(pulled[k], along_null[k][None])", "c = count_missing(pulled[k], pulled_null[k][None])"
)
NO_PLANE = LOOPS["measurement"].replace("plane = tangent_plane(net, p)", "plane = net")
BORROWED_COUNT = OTHER["measurement"].replace("missing(pulled, pulled_null)", "missing(pulled, along_null)")
SAME_WAY = OTHER["measurement"].replace('how in ("gradient", "parents")', 'how in ("gradient", "gradient")')
UNSOLVED = {"measurement-test": "unsolved"}

# Cells that are answered, the others are left as released; then what each test calls the mistake: a misconception's
# name, "visible" where the visible test has caught it already, "unsolved". Tests that are not listed give full points.
WRONG = {
    "as printed": (
        {"sheets": RAW, "certified": WITHIN, "project": AT_ONCE, "boundary": ALONG_AXIS}
        | {"spectrum": SQUARES, "count": CHANCE, "towards": FIRST_ABOVE},
        {
            "sheets-test": "length-of-normals",
            "certified-test": "not-in-the-wedge",
            "project-test": "all-at-once",
            "boundary-test": "along-the-axis",
            "spectrum-test": "squares-for-values",
            "count-test": "chance-alone",
            "towards-test": "order-of-parents",
        }
        | UNSOLVED,
    ),
    "one after another": (
        {"sheets": FOLDED, "certified": LEAST_SQUARES, "project": SWEEP, "boundary": BY_COORDINATE}
        | {"spectrum": NO_ROOT, "count": SHARE, "towards": ONE_PARENT},
        {
            "sheets-test": "blunt-as-sharp",
            "certified-test": "least-squares-for-equal",
            "project-test": "one-sweep",
            "boundary-test": "another-sheet",
            "spectrum-test": "number-of-samples",
            "count-test": "share-alone",
            "towards-test": "one-parent",
        }
        | UNSOLVED,
    ),
    "again and again": (
        {"sheets": NORMALS, "certified": PULLS, "project": SWEEPS, "boundary": STAYS}
        | {"spectrum": BY_RADIUS, "count": EITHER, "towards": STRAIGHT},
        {
            "sheets-test": "angle-of-normals",
            "certified-test": "sheet-that-pulls",
            "project-test": "many-sweeps",
            "boundary-test": "visible",
            "spectrum-test": "radius-for-unit",
            "count-test": "either-for-both",
            "towards-test": "along-the-normal",
        }
        | UNSOLVED,
    ),
    "added up": (
        OTHER | {"certified": FROM_AFAR, "project": ADDED, "count": MEAN, "measurement": BORROWED},
        {
            "certified-test": "pushed-from-afar",
            "project-test": "pushes-added",
            "count-test": "mean-for-median",
            "measurement-test": "null-by-another-way",
        },
    ),
    "one sheet": (
        OTHER | {"certified": EXACT, "project": NEAREST_SHEET, "count": ONE_PLANE, "measurement": TAUGHT},
        {
            "certified-test": "refused-by-rounding",
            "orthogonal-test": "visible",
            "project-test": "one-sheet-alone",
            "count-test": "one-plane",
            "measurement-test": "measured-where-trained",
        },
    ),
    "by the library": (
        OTHER
        | {"boundary": BOUNDARY_BY_LIBRARY, "spectrum": SPECTRUM_BY_LIBRARY, "count": COUNT_BY_LIBRARY}
        | {"towards": TOWARDS_BY_LIBRARY, "measurement": OWN_IN_C},
        {
            "boundary-test": "used-the-library",
            "spectrum-test": "used-the-library",
            "count-test": "used-the-library",
            "towards-test": "used-the-library",
            "measurement-test": "own-null-in-c",
        },
    ),
    "along the axes": (
        OTHER | {"project": CUT_OFF, "measurement": NO_PLANE},
        {
            "orthogonal-test": "axes-for-sheets",
            "project-test": "still-outside",
            "measurement-test": "network-for-plane",
        },
    ),
    "long normals": (
        OTHER | {"project": LONG, "measurement": BORROWED_COUNT},
        {
            "orthogonal-test": "length-of-normals",
            "project-test": "still-outside",
            "measurement-test": "borrowed-null",
        },
    ),
    "one way twice": (
        OTHER | {"measurement": SAME_WAY},
        {"measurement-test": "one-way-twice"},
    ),
}
QUICK = ("as printed", "one after another", "other formulas")  # what `make test` grades
