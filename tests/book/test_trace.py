"""The identifier rule is sound: whatever ran is in the key. Held against a profiler's trace."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tightrope
from tightrope.book import code
from tightrope.book.checkout import Checkout
from tightrope.book.press import pairs

ROOT = Path(__file__).resolve().parents[2]
BOOK = Checkout(ROOT)

SMALL = [
    "import torch\nfrom tightrope import attacks, data, margins, nets, spectra, training, views\n"
    "from tightrope.book import runs",
    "run = runs.start('01-synthetic-margins', 'smoke')",
    "x, y = views.view('flipped mnist').load('test', n=20)\n"
    "net, log = run.network(lambda seed: nets.lenet(seed), x, y, training.Recipe(epochs=1), 0)",
    "m = margins.deepfool(net, x[:3], spectra.dct_windows((1, 28, 28), 8, 10), tight=2)",
    "a = attacks.pgd(net, x[:3].clamp(0, 1), y[:3], eps=0.5, steps=2)\nrun.record('a.b', m.norm.isinf().sum())",
]


def traced(cells: list[str], folder: Path) -> set[tuple[str, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.trace"],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(BOOK.package.parent)]),
            "TIGHTROPE_CACHE": str(folder),
            "MPLBACKEND": "Agg",
        },
        cwd=BOOK.book,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {tuple(pair) for pair in json.loads(done.stdout)}


def unseen(cells: list[str], folder: Path) -> set[tuple[str, str]]:
    known = {
        (module, name) for module, names, _ in code.reached(cells, BOOK.package) for name in names.split()
    }
    ran = traced(cells, folder)
    assert len(ran) > 30
    return {(module, name) for module, name in ran - known if module not in ("__init__", "__main__")}


def test_what_a_small_chapter_ran_is_in_its_key(tmp_path):
    assert Path(tightrope.__file__).parent == BOOK.package
    assert unseen(SMALL, tmp_path) == set()


@pytest.mark.long
@pytest.mark.parametrize("chapter", BOOK.chapters())
def test_what_a_chapter_ran_is_in_its_key(chapter, tmp_path):
    cells = [c.source for c in pairs.read_text(BOOK.text(chapter)).cells if c.cell_type == "code"]
    assert (
        unseen(
            ['profile, seed, device = "smoke", 0, "cpu"' if c.startswith("profile = ") else c for c in cells],
            tmp_path,
        )
        == set()
    )
