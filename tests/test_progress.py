"""A long call says how far it is: in a log where stderr is no terminal, and nowhere that a page would show."""

import os
import subprocess
import sys

import pytest

LONG = (
    "import time\nfrom tightrope import progress\n"
    "progress.EVERY, progress.LOG_EVERY = 0, {every}\n"
    "for _ in progress.track(range(4), 'step'): time.sleep(.05)\n"
)


def said(code: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_log_gets_a_line_now_and_then():
    lines = said(LONG.format(every=0.06))
    assert 1 <= len(lines) <= 3
    assert all(" step " in line and "/4" in line for line in lines)


def test_a_short_call_leaves_no_line():
    assert said(LONG.format(every=10)) == []


def test_a_chapter_leaves_no_line(tmp_path):
    assert said(LONG.format(every=0), TIGHTROPE_PROGRESS=str(tmp_path / "line")) == []


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        ("import logging; logging.getLogger('tightrope').setLevel('WARNING')\n", 0),
        ("import logging; logging.basicConfig(format='mine %(message)s', level='INFO')\n", 3),
    ],
)
def test_a_program_s_own_logging_decides(before, lines):
    got = said(before + LONG.format(every=0))
    assert len(got) >= lines
    assert all(line.startswith("mine step") for line in got)
    assert got or not lines


def test_a_line_is_there_once_also_where_logging_is_set_up_later():
    once = LONG.format(every=0.06)
    lines = said(
        once + "import logging; logging.basicConfig(level='INFO')\n" + once.replace("'step'", "'again'")
    )
    assert len(lines) == len(set(lines))
    assert all(line[2] == ":" for line in lines)
