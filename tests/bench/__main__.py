"""Our measurements against the published code and other libraries: `make bench`, or `python -m tests.bench [NAME ...]`.

Single thread, process CPU time, the methods of a table taking turns in one process and doing the same work: only then
do ratios mean something. Prints Markdown, which the README quotes, and exits with 1 when a stated bound is not met.
"""

from __future__ import annotations

import sys

import torch
from tests.bench import frequency, margins, outside, pairs, paths, persistence, tight

from tightrope import data

BENCHES = {
    bench.__name__: bench
    for bench in (
        margins.subspace_margins,
        margins.full_space_margins,
        margins.checks,
        tight.tight_margins,
        tight.tight_windows,
        outside.outside_attacks,
        frequency.imagenet_windows,
        pairs.squared_loss,
        pairs.logistic_loss,
        paths.contributions,
        paths.moving_gram,
        paths.scaling,
        persistence.on_wedges,
        persistence.on_digits,
    )
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"Unknown benchmark {unknown[0]!r}: there are {', '.join(BENCHES)}.", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    reports = []
    for name in names or BENCHES:
        made = BENCHES[name]()
        for report in made if isinstance(made, list) else [made]:
            reports.append(report)
            print(report.markdown(), flush=True)
            print()
    print(f"torch {torch.__version__}, one thread, MNIST from: {data.where('mnist')}.")
    return 0 if all(report.met() for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
