"""What changes a key, and what does not."""

import os
import shutil
from pathlib import Path

import pytest

from tightrope.book import code
from tightrope.book.checkout import Checkout
from tightrope.book.press import keys

LIBRARY = {
    "__init__.py": '"""A package."""\n',
    "ground.py": (
        '"""Ground."""\n\nSCALE = 2\n\n\ndef used(x):\n    """Doc."""\n    return x * SCALE\n\n\n'
        "def other(x):\n    return -x\n"
    ),
    "upper.py": (
        "from . import ground\nfrom .ground import used as use\nfrom .table import TABLE\n\n\n"
        "class Thing:\n    def go(self):\n        return helper(1)\n\n\n"
        "def helper(x):\n    return use(x)\n\n\n"
        "def whole(name):\n    return getattr(ground, name)\n\n\n"
        "def late(x):\n    from .ground import other\n\n    return other(x)\n"
    ),
    "table.py": (
        "TABLE = {}\n\n\ndef register(f):\n    TABLE[f.__name__] = f\n    return f\n\n\n"
        "@register\ndef entry():\n    return 1\n"
    ),
    "book/runs.py": "def start():\n    return 1\n",
    "book/press/console.py": "def show():\n    return 1\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "lib" / "tightrope"
    folder.mkdir(parents=True)
    for name, text in LIBRARY.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def names(cell: str, package: Path) -> set[str]:
    return {f"{module}:{bound}" for module, bound, _ in code.reached([cell], package) if module != "__init__"}


def edit(package: Path, name: str, old: str, new: str) -> None:
    text = (package / name).read_text()
    assert old in text
    (package / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "cell",
    [
        "from tightrope import ground\nground.used(1)",
        "from tightrope import ground as g\nfor i in range(2):\n    g.used(i)",
        "import tightrope.ground as g\ng.used(1)",
        "import tightrope.ground\ntightrope.ground.used(1)",
        "import tightrope\nf = tightrope.ground.used",
        "from tightrope.ground import used\nused(1)",
        "%matplotlib inline\nfrom tightrope.ground import used\n!ls\nused(1)",
    ],
)
def test_a_function_is_reached_however_it_is_imported_and_its_neighbour_is_not(cell, package):
    assert names(cell, package) == {"ground:used", "ground:SCALE"}


def test_names_are_followed_through_classes_aliases_and_imports_inside_functions(package):
    found = names("from tightrope.upper import Thing\nThing().go()", package)
    assert {
        "upper:Thing",
        "upper:helper",
        "ground:used",
        "ground:SCALE",
    } <= found
    assert "ground:other" not in found
    assert "ground:other" in names("from tightrope import upper\nupper.late(1)", package)


def test_a_lazy_door_hides_nothing(package):
    """A module that is only reached through the package's `__getattr__` is one of the package's words all the same."""
    (package / "__init__.py").write_text("from lazy import attach\n\n__getattr__ = attach(__file__)\n")
    cell = "from tightrope import upper\nupper.helper(1)"
    before = code.key([cell], package)
    edit(package, "ground.py", "SCALE = 2", "SCALE = 3")
    assert code.key([cell], package) != before


def test_what_a_module_registers_on_import_counts_with_it(package):
    assert "table:entry" in names("from tightrope.table import TABLE\nTABLE['entry']()", package)
    assert "table:entry" in names("from tightrope.upper import TABLE\nTABLE['entry']()", package)


CELL = "from tightrope import upper\nupper.helper(1)"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ground.py", "return x * SCALE", "return x * SCALE * 1"),
        ("ground.py", "SCALE = 2", "SCALE = 2.0"),
        ("upper.py", "return use(x)", "return use(x) + 0"),
    ],
)
def test_the_key_changes_with_code_that_is_reached(name, old, new, package):
    before = code.key([CELL], package)
    edit(package, name, old, new)
    assert code.key([CELL], package) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ground.py", '"""Doc."""', '"""Another docstring."""'),
        ("ground.py", '    """Doc."""\n', ""),
        ("ground.py", '"""Ground."""\n', "# A comment.\n"),
        ("ground.py", "return x * SCALE", "return (x\n            * SCALE)  # twice"),
        ("ground.py", "return -x", "return +x"),
        ("upper.py", "return getattr(ground, name)", "return None"),
    ],
)
def test_the_key_stays_with_comments_docstrings_layout_and_code_that_is_not_reached(name, old, new, package):
    before = code.key([CELL], package)
    edit(package, name, old, new)
    assert code.key([CELL], package) == before


def test_the_form_of_a_cell_keeps_what_matters():
    form = code.cell_form
    assert form("f( 1 )  # one") == form("f(1)")
    assert form("f(1);") != form("f(1)")
    assert form("f(1);  # quiet") == form("f(1);")
    assert form("'text'") != form("'other text'")  # the last expression of a cell is shown
    assert form("%time f(1)") != form("%time f(2)")
    assert form("x = 1") != form("x = True") != form("x = 1.0")


def notebook(*sources: str, tags: dict[int, list[str]] | None = None) -> list[dict]:
    tags = tags or {}
    return [
        {"cell_type": "code", "source": source, "metadata": {"tags": tags.get(i, [])}}
        for i, source in enumerate(sources)
    ]


def execution(checkout: Checkout, cells: list[dict], **changes) -> str:
    given = {"profile": "quick", "seed": 0, "device": "cpu", "parameters": {}} | changes
    return keys.execution_key(checkout, cells, **given)


@pytest.fixture
def checkout(package) -> Checkout:
    root = package.parents[1]
    (root / "book" / "runs").mkdir(parents=True)
    return Checkout(root)


def test_an_execution_depends_on_code_profile_seed_device_and_parameters(checkout):
    cells = notebook("x = 1", CELL)
    same = execution(checkout, cells)
    assert execution(checkout, [{"cell_type": "markdown", "source": "Prose."}, *cells]) == same
    assert execution(checkout, notebook("x = 1  # one", CELL)) == same
    others = [
        execution(checkout, notebook("x = 2", CELL)),
        execution(checkout, notebook("x = 1", CELL, tags={0: ["parameters"]})),
        execution(checkout, cells, profile="paper"),
        execution(checkout, cells, seed=1),
        execution(checkout, cells, device="cuda"),
        execution(checkout, cells, parameters={"x": 3}),
    ]
    assert len({same, *others}) == 7


def test_neither_claims_nor_stored_runs_are_part_of_an_execution(checkout):
    cells = notebook("x = 1")
    same = execution(checkout, cells)
    (checkout.book / "claims.yml").write_text("- {id: a, chapter: 01-first, published: 1}\n")
    checkout.stored("01-first").write_text("{}")
    assert execution(checkout, cells) == same


def test_an_execution_depends_on_the_data_file_it_would_read(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("TIGHTROPE_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    reads, other = notebook('load("digits")'), notebook('load("photos")')
    before = execution(checkout, reads), execution(checkout, other)
    (tmp_path / "data" / "digits.npz").write_bytes(b"1")
    after = execution(checkout, reads), execution(checkout, other)
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert keys.same_code(after[0], before[0])
    assert not keys.same_code(after[0], after[1])


def test_two_clones_of_one_commit_have_the_same_keys(checkout, tmp_path, monkeypatch):
    cells = notebook("from tightrope import ground\nground.used('digits')")
    seen = []
    for clone, date in (("here", 1_000_000_000), ("there", 1_700_000_000)):
        root = tmp_path / clone / "checkout"
        shutil.copytree(checkout.root / "lib", root / "lib")
        data = tmp_path / clone / "data"
        data.mkdir()
        (data / "digits.npz").write_bytes(b"1")
        for path in [data / "digits.npz", *root.rglob("*.py")]:
            os.utime(path, (date, date))
        monkeypatch.setenv("TIGHTROPE_DATA", str(data))
        seen.append((execution(Checkout(root), cells), keys.stored_key(Checkout(root), cells, "quick")))
    assert seen[0] == seen[1]


def test_a_changed_data_file_of_the_same_name_is_seen_whatever_its_date(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("TIGHTROPE_DATA", str(tmp_path))
    before = []
    for content in (b"1", b"2", b"1"):
        (tmp_path / "digits.npz").write_bytes(content)
        before.append(execution(checkout, notebook('load("digits")')))
    assert before[0] == before[2] != before[1]


def test_the_machinery_is_no_part_of_an_execution_and_the_top_floor_none_of_a_stored_run(checkout):
    imports = "from tightrope import ground\nfrom tightrope.book import runs\nfrom tightrope.book.press import console"
    cells = notebook(f"{imports}\nground.used(runs.start())\nconsole.show()")
    before = execution(checkout, cells), keys.stored_key(checkout, cells, "paper")
    edit(checkout.package, "book/press/console.py", "return 1", "return 2")
    assert (execution(checkout, cells), keys.stored_key(checkout, cells, "paper")) == before
    edit(checkout.package, "book/runs.py", "return 1", "return 2")
    assert execution(checkout, cells) != before[0]
    assert keys.stored_key(checkout, cells, "paper") == before[1]
    edit(checkout.package, "ground.py", "SCALE = 2", "SCALE = 3")
    assert keys.stored_key(checkout, cells, "paper") != before[1]


def test_a_stored_run_does_not_depend_on_cells_that_only_draw(checkout):
    def key(drawing: str, tag: str) -> str:
        return keys.stored_key(checkout, notebook("x = 1", drawing, tags={1: [tag]}), "paper")

    assert key("plot(x)", "figure") == key("plot(x, 'red')", "figure")
    assert key("plot(x)", "other") != key("plot(x, 'red')", "other")


def test_a_stored_run_does_not_depend_on_another_profile_s_sizes(checkout):
    def key(sizes: str, profile: str = "paper") -> str:
        return keys.stored_key(checkout, notebook(f"size = run.sizes({sizes})"), profile)

    assert key("N=(1, 2, 3)") == key("N=(5, 6, 3)")
    assert key("N=(1, 2, 3)") != key("N=(1, 2, 4)")
    assert key("N=(1, 2, 3)", "quick") == key("N=(5, 2, 4)", "quick")
    assert key("N=(1, 2, 3)", "quick") != key("N=(1, 7, 3)", "quick")
    assert key("N=((1, 2), None, (3, 4))") != key("N=((1, 2), None, (3, 5))")
    assert key("N=many") != key("N=few")  # no row to take one from


def test_words_do_not_make_a_stored_run_stale(checkout):
    def key(cell: str) -> str:
        return keys.stored_key(checkout, notebook(cell), "paper")

    assert key('said = run.text("It is {a}." + so)') == key('said = run.text("That is {a.b}." + so)')
    assert key('run.text("It is {a}.", so=so)') != key('run.text("It is {a}.", so=so + so)')
    table = 'run.table("a.{{q}}", of, columns="{}", head="{}", caption="{}")'.format
    assert key(table("q", "one", "two")) == key(table("q", "three", "four"))
    assert key(table("q", "one", "two")) != key(table("p", "one", "two"))
    assert key('run.record("a", 1)') != key('run.record("b", 1)')
    assert key('run.text("a")\nx = 1') != key('run.text("a")\nx = 2')


def test_what_a_drawing_cell_lends_to_a_measuring_one_counts(checkout):
    def key(drawing: str, *measuring: str) -> str:
        return keys.stored_key(checkout, notebook(drawing, *measuring, tags={0: ["figure"]}), "paper")

    lender = "import math as m\n\ndef of(x):\n    return m.sqrt(x) * {}\n\nax.plot(of({}))".format
    assert key(lender(1, 2), "run.record('a', of(3))") != key(lender(5, 2), "run.record('a', of(3))")
    assert key(lender(1, 2), "run.record('a', of(3))") == key(lender(1, 4), "run.record('a', of(3))")
    assert key(lender(1, 2), "run.record('a', 3)") == key(lender(5, 2), "run.record('a', 3)")
    assert key(lender(1, 2), "def of(x):\n    return x") == key(lender(5, 2), "def of(x):\n    return x")
    assert key("x = 1\ny = x", "run.record('a', y)") != key("x = 2\ny = x", "run.record('a', y)")
    loop = "of = {{}}\nfor x in (1, 2):\n    of[x] = {}\n    plot(x)".format
    assert key(loop("x"), "print(of)") != key(loop("-x"), "print(of)")
    assert key(loop("x"), "print(x)") == key(loop("-x"), "print(x)")
    for measuring in ("for x in y: print(x)", "[x for x in y]", "lambda x: x", "x = 5\nprint(x)"):
        assert key("x = 1", measuring) == key("x = 2", measuring)
