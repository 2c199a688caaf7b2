"""The README's commands for a network that is not ours, pasted into an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

# What the pasted lines made, against the library's own way to the same network and against the network itself.
CHECKS = """
ours = nets.pretrained("efficientnet_lite0")
first = margins.deepfool(net, x, tight=20, keep=True)
again = margins.deepfool(ours, x, tight=20)
assert torch.allclose(first.norm, again.norm, rtol=1e-3), (first.norm, again.norm)
with torch.no_grad():
    for scale, changed in ((1.01, True), (0.98, False)):
        moved = net(x + scale * first.delta[:, 0]).argmax(1)
        assert ((moved != y) == changed).all(), (scale, moved, y)
assert m.norm.shape == (len(x), 3) and m.found.all()
assert a.found.all() and not a.stuck.any() and (a.images - x).abs().max() <= 1 / 255
"""


def test_what_the_readme_says_runs_as_printed(tmp_path):
    section = (
        (ROOT / "README.md").read_text("utf-8").split("## Measure your own network")[1].split("\n## ")[0]
    )
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    (tmp_path / "photos").mkdir()
    small = np.random.default_rng(0).integers(0, 256, (7, 7, 3)).astype("uint8")
    Image.fromarray(small).resize((300, 260), Image.Resampling.BICUBIC).save(
        tmp_path / "photos" / "blobs.jpg"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "lib")}
    command = [sys.executable, "-c", code + CHECKS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
