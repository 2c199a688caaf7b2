"""`python -m tightrope`: the one entry behind make."""

from __future__ import annotations

import os
import sys

if sys.path[:1] in (
    [""],
    [os.getcwd()],
):  # `python -m` looks there first, and a `random.py` of anybody's would be used
    del sys.path[0]

import argparse
import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tightrope.book.checkout import PROFILES, Checkout, Stop, find_checkout

DESCRIPTION = """\
Walking the Tightrope: an executable book on margins, features and adversarial examples.

  tightrope book                       execute what changed, build the site
  tightrope book --chapters 1 5        only these; the other pages stay as they were
  tightrope run 1 --profile paper      execute a chapter, build nothing
"""

RUNNING = """\
profiles
  smoke   seconds a chapter, tiny: does everything work?
  quick   minutes a chapter on one core, real data: what `make book` does
  paper   the sources' sizes, for a GPU
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status. 2: something to put right in the call, 1: something failed."""
    arguments = _parser().parse_args(argv)
    try:
        checkout = find_checkout(arguments.root)
        checkout.require_own_library()
        return arguments.command(arguments, checkout) or 0
    except Stop as stop:
        print(f"\n{stop}" if stop.status == 1 else str(stop), file=sys.stderr)
        return stop.status
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"{error.strerror or error}{where}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; the same command goes on from here.", file=sys.stderr)
        return 130


def book(arguments: argparse.Namespace, checkout: Checkout) -> None:
    """Execute what changed and build the site."""
    from tightrope.book.press import site

    with checkout.lock():
        jobs = _execute(arguments, checkout, arguments.chapters)
        chosen = {job.chapter for job in jobs}
        jobs += [
            _as_it_was(checkout, chapter, arguments.profile)
            for chapter in checkout.chapters()
            if chapter not in chosen
        ]
        _warn_of_drift(checkout)
        first = site.publish(checkout, jobs, arguments.out)
    print(f"The book is built. Open {first.resolve().as_uri()}")


def run(arguments: argparse.Namespace, checkout: Checkout) -> None:
    """Execute chapters; with --store, keep their records as the runs that the book shows."""
    from tightrope.book.press import plans

    if arguments.store and (arguments.profile == "smoke" or arguments.set):
        raise Stop(
            "Only a full quick or paper run can be stored: leave out --store, or --set and --profile smoke."
        )
    with checkout.lock():
        jobs = _execute(arguments, checkout, arguments.chapters)
        for job in jobs:
            if arguments.store:
                print(f"stored {os.path.relpath(plans.store(job))}")
            else:
                print(os.path.relpath(checkout.executed(job.profile, job.chapter)))


def runs(arguments: argparse.Namespace, checkout: Checkout) -> int:
    """List the stored runs: fresh, vouched for, or stale and why."""
    from tightrope.book.press import vouching

    states = {c: vouching.state(checkout, c) for c in checkout.chapters() if checkout.stored(c).is_file()}
    for chapter, state in states.items():
        print(f"{chapter}  {state}")
    return int(any(state.startswith("stale") for state in states.values()))


def vouch(arguments: argparse.Namespace, checkout: Checkout) -> int:
    """Let a stored run stand for today's code, if no number moved since its commit (executed small, at both)."""
    from tightrope.book.press import vouching

    (chapter,) = checkout.find([arguments.chapter])
    moved = vouching.vouch(checkout, chapter)
    for line in moved:
        print(line)
    print(f"{chapter}  {vouching.state(checkout, chapter)}")
    return int(bool(moved))


def sync(arguments: argparse.Namespace, checkout: Checkout) -> int:
    """Make each chapter's notebook say what its text says."""
    from tightrope.book.press import pairs

    stopped = 0
    for chapter in checkout.find(arguments.chapters):
        try:
            print(f"{chapter}: {pairs.sync(checkout, chapter, arguments.source)}")
        except Stop as stop:
            print(stop, file=sys.stderr)
            stopped = stop.status
    return stopped


def check(arguments: argparse.Namespace, checkout: Checkout) -> int:
    """Check files in git, and the built site where there is one."""
    from tightrope.book.press import checks

    built = arguments.site or checkout.build / "_build" / "html"
    if arguments.site and not built.is_dir():
        raise Stop(f"There are no built pages in {built}; run `make book`.")
    problems = checks.chapters(checkout)
    if built.is_dir():
        problems += checks.site(built)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problem{'s' * (len(problems) != 1)}." if problems else "All is well.")
    return 1 if problems else 0


def scorecard(arguments: argparse.Namespace, checkout: Checkout) -> None:
    """Print every claim beside what was measured."""
    from tightrope.book.press import plans, site

    jobs = plans.plan(checkout, checkout.chapters(), arguments.profile)
    tables = site.judged(site.outcomes(checkout, jobs))
    print(
        "\n\n".join(f"{chapter}\n{table}" for chapter, table in tables.items()) or "No claims are listed yet."
    )


def course(arguments: argparse.Namespace, checkout: Checkout) -> None:
    """Make what students and instructors are given of the assignments, in build/course."""
    with _extra("course"):
        from tightrope.book.course import releases

        print(f"The course is made. Its releases are in {os.path.relpath(releases.make(checkout))}/students.")


def grade(arguments: argparse.Namespace, checkout: Checkout) -> None:
    """Grade a folder or a zip of submissions, each isolated as far as this machine can.

    What was graded before and has not changed is not run again."""
    with _extra("course"):
        from tightrope.book.course import grading

        if os.name == "nt":
            raise Stop("Grading needs Linux or macOS; on Windows, use WSL.")
        given = arguments.submissions, arguments.assignment, arguments.out, arguments.jobs
        report = grading.grade(checkout, *given)
    print(f"Everything is graded. Open {report.resolve().as_uri()}")


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Say which optional packages a command is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "tightrope":
            raise
        raise Stop(f"{error.name} is missing: pip install 'tightrope[{name}]', or use make.") from None


def _execute(arguments: argparse.Namespace, checkout: Checkout, chapters: list[str]) -> list:
    """Plan the chosen chapters, execute those whose outputs are not there; returns the jobs."""
    from tightrope.book.press import execute, plans

    if arguments.jobs is not None and arguments.jobs < 1:
        raise Stop(f"--jobs takes a number from 1 on, not {arguments.jobs}.")
    given = dict(_assignment(text) for text in arguments.set)
    jobs = plans.plan(
        checkout, checkout.find(chapters), arguments.profile, arguments.device, arguments.seed, given
    )
    todo = [job for job in jobs if not job.is_done()]
    for job in jobs:
        if job not in todo:
            print(f"{job.chapter}  unchanged")
    if todo:
        execute.run(todo, arguments.jobs)
    return jobs


def _as_it_was(checkout: Checkout, chapter: str, profile: str):
    """The job behind a page that was not asked for: its last execution, if that is of today's code."""
    from tightrope.book.press import plans

    for candidate in dict.fromkeys((profile, "quick", "paper", "smoke")):
        done = plans.finished(checkout, candidate, chapter)
        if done is not None:
            about = done.metadata["tightrope"]
            job = plans.plan(
                checkout, [chapter], candidate, about["device"], about["seed"], about["parameters"]
            )[0]
            if job.is_done():
                return job
    return plans.plan(checkout, [chapter], profile)[0]


def _warn_of_drift(checkout: Checkout) -> None:
    from tightrope.book.press import pairs

    for chapter in checkout.chapters():
        notebook = checkout.notebook(chapter)
        if notebook.is_file() and pairs.difference(checkout.text(chapter), notebook):
            print(f"{notebook.name} says something else than {chapter}.md, which was used; see `make sync`.")


def _assignment(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise Stop(f"--set takes name=value, not {text!r}.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _parser() -> argparse.ArgumentParser:
    shape = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="tightrope", description=DESCRIPTION, **shape)
    parser.add_argument(
        "--root", type=Path, help="the checkout (default: the one around the working directory)"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for function, names in COMMANDS.items():
        said = {"help": function.__doc__.split(".")[0], "description": function.__doc__}
        sub = commands.add_parser(
            function.__name__, epilog=RUNNING if "--profile" in names else None, **said, **shape
        )
        sub.set_defaults(command=function)
        for name in names:
            sub.add_argument(name, **OPTIONS[name])
    return parser


_CHAPTERS = {"metavar": "CHAPTER", "nargs": "*", "default": [], "help": "numbers or names (default: all)"}
OPTIONS = {
    "chapters": _CHAPTERS,
    "--chapters": _CHAPTERS,
    "chapter": {"metavar": "CHAPTER", "help": "its number or name"},
    "--profile": {"default": "quick", "metavar": "|".join(PROFILES), "help": "the sizes (default: quick)"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda or cuda:N (default: auto)"},
    "--seed": {"type": int, "default": 0, "help": "the first seed (default: 0)"},
    "--set": {
        "action": "append",
        "default": [],
        "metavar": "NAME=VALUE",
        "help": "another parameter of the chapter's parameters cell",
    },
    "--jobs": {"type": int, "help": "how many at a time (default: one a core)"},
    "--out": {"type": Path, "help": "another folder for what is made than the usual one"},
    "--store": {"action": "store_true", "help": "keep the numbers in book/runs, for git"},
    "--from": {
        "dest": "source",
        "choices": ("md", "ipynb"),
        "help": "the file that is right (default: the text, unless the notebook has words of its own)",
    },
    "submissions": {
        "type": Path,
        "metavar": "SUBMISSIONS",
        "help": "the folder, or the zip, that holds them",
    },
    "--assignment": {
        "metavar": "NN",
        "help": "its number or name (may be left out where there is one alone)",
    },
    "--site": {"type": Path, "help": "the built pages (default: build/_build/html)"},
}
_RUN = ("--profile", "--device", "--seed", "--set", "--jobs")
COMMANDS = {
    book: ("--chapters", *_RUN, "--out"),
    run: ("chapters", *_RUN, "--store"),
    runs: (),
    vouch: ("chapter",),
    sync: ("chapters", "--from"),
    check: ("--site",),
    scorecard: ("--profile",),
    course: (),
    grade: ("submissions", "--assignment", "--out", "--jobs"),
}


if __name__ == "__main__":
    sys.exit(main())
