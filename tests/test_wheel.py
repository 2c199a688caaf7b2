"""What a reader without a checkout has: the wheel, in an empty folder, without a network."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("[0-9][0-9]-*.ipynb"))

ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        extra = {'matplotlib', 'IPython', 'papermill', 'jupytext', 'nbformat', 'bs4', 'torchvision'}
        if name.split('.')[0] in extra: raise ImportError(name)
sys.meta_path.insert(0, Absent())
from tightrope import data, margins, nets
assert 'unpacked' in data.__file__
x, y = data.load('mnist', 'test', n=3)
assert margins.deepfool(nets.lenet(), x).found.all()
"""
SHELF = """
from tightrope.book import claims, records, slips
listed = claims.load()
assert 'unpacked' in claims.__file__ and listed and slips.load()
assert {c.chapter for c in listed if records.stored(c.chapter)}, "no stored run came along"
print(claims.table(records.stored(listed[0].chapter).record))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the sources and unpacked somewhere else."""
    at = tmp_path_factory.mktemp("wheel")
    source = at / "source"
    leave = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "lib", source / "lib", ignore=leave)
    shutil.copytree(ROOT / "book" / "runs", source / "book" / "runs")
    for name in (
        "pyproject.toml",
        "setup.py",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "book/claims.yml",
        "book/slips.yml",
    ):
        shutil.copy(ROOT / name, source / name)
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(at), str(source)]
    done = subprocess.run([sys.executable, "-m", "pip", *build], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = at.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(at / "unpacked")
    return at / "unpacked"


def python(unpacked: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Python in an empty folder, with the unpacked wheel and no other library of this name in reach."""
    home = {name: value for name, value in os.environ.items() if not name.startswith("TIGHTROPE_")}
    environment = home | {"PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1", "HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "code", [ALONE, SHELF], ids=["without the book's packages", "claims and stored runs"]
)
def test_the_wheel_is_enough(unpacked, tmp_path, code):
    done = python(unpacked, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_beside_nothing_but_the_wheel(unpacked, tmp_path, chapter):
    shutil.copy(ROOT / "book" / f"{chapter}.ipynb", tmp_path)
    run = ["-m", "papermill", "-p", "profile", "smoke", "-k", "python3", f"{chapter}.ipynb", "out.ipynb"]
    done = python(unpacked, tmp_path, *run)
    assert done.returncode == 0, done.stderr[-3_000:]
    page = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    shown = [output for cell in page.cells for output in cell.get("outputs", [])]
    tables = [output["data"]["text/plain"] for output in shown if "text/plain" in output.get("data", {})]
    claimed = next(text for text in tables if "\nthis run: smoke" in text)
    stored = (ROOT / "book" / "runs" / f"{chapter}.json").is_file()
    assert ("stored run: none" in claimed) is not stored
