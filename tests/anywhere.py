"""The unit tests as other processors would run them: three instruction sets, one and two threads, two seeds.

    python tests/anywhere.py [-k EXPRESSION, or what else pytest takes]

Prints a line a configuration, ends with 1 if one failed. Sets that this processor lacks are left out, and named: told
to use them, a program would be killed. As many run side by side as there are cores, mostly busy with one thread. The
press is left out: it moves files and starts processes, which choose their own threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETS = {  # what torch's own kernels, its convolutions and its matrix products may use
    "default": ("default", "SSE41", "SSE4_2"),
    "avx2": ("avx2", "AVX2", "AVX2"),
    "avx512": ("avx512", "AVX512_CORE", "AVX512"),
}
SWITCHES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def available() -> list[str]:
    """The instruction sets of this processor, as torch finds them when it is told nothing."""
    asked = "import torch; print(torch.backends.cpu.get_cpu_capability().lower())"
    unset = {key: value for key, value in os.environ.items() if key not in SWITCHES}
    best = subprocess.check_output([sys.executable, "-c", asked], env=unset, text=True).strip()
    names = list(SETS)
    return names[: names.index(best) + 1] if best in names else ["default"]


def run(name: str, threads: int, seed: int) -> bool:
    """Whether the unit tests pass in one configuration; what pytest said of those that do not is printed."""
    environment = os.environ | dict(zip(SWITCHES, SETS[name], strict=True))
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "TIGHTROPE_TEST_SEED": str(seed)}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-m", "not book and not long", "--ignore=tests/book/press"]
        command += ["-p", "no:cacheprovider", "--tb=short", f"--basetemp={folder}/tests", *sys.argv[1:]]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    told = lines[-1] if lines else done.stderr
    print(f"{name:8} {threads} thread(s), seed {seed}: {told} [{time.monotonic() - start:.0f} s]", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr, flush=True)
    return done.returncode == 0


def main() -> int:
    sets = available()
    for name in list(SETS)[len(sets) :]:
        print(f"{name:8} not on this processor", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        passed = list(pool.map(lambda each: run(*each), product(sets, (1, 2), (0, 1))))
    print(f"{sum(passed)} of {len(passed)} configurations passed.")
    return not all(passed)


if __name__ == "__main__":
    sys.exit(main())
