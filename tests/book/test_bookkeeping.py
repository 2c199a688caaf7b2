"""A chapter's code is about its subject: see `bookkeeping`."""

from __future__ import annotations

import pytest

import bookkeeping

MOST = 0.08


@pytest.mark.parametrize("path", bookkeeping.chapters(), ids=lambda path: path.stem)
def test_little_of_a_chapter_is_bookkeeping(path):
    found = bookkeeping.count(path)
    assert found.share <= MOST, found
    assert not found.long_cells, found


def lines(source):
    return sorted(bookkeeping.bookkeeping(source))


def test_what_counts():
    assert lines('run.record("a", x, n=len(m))\nrun.record("a", x / y)') == [1]
    assert lines('run.table(\n    "a.{q}",\n    lambda q: m[q],\n    unit="s",\n)') == [1, 2, 4, 5]
    assert lines('x = f(1)\nrun.text(\n    "x"\n)') == [2, 3, 4]
    assert lines("for k in ks:\n    run.record(k, v[k])") == [1, 2]
    assert lines("for k in ks:\n    run.record(k, v[k])\n    w = f(k)") == [2]
    assert lines('names = {"a": "one"}\nrows = []\nrows.append([a, f"{b:.2f}"])\nrows.append([f(a)])') == [
        1,
        2,
        3,
    ]
    assert lines('def shown(x):\n    return f"{x:.2f}"\ndef g(x):\n    return x + 1') == [1, 2]
    assert lines('size = {"a": 1}\nm = margins.deepfool(net, x)') == []


def test_a_caption_is_a_sentence():
    assert bookkeeping.prose('Table(head, rows,\n  caption="One.")\nTable(head, rows, caption="One.")') == {2}


def test_words_in_a_picture_are_no_sentence_of_the_page():
    for axes in ("ax", "axes[0]", "figure.axes[0]", "plt.gca()"):
        assert lines(f'{axes}.text(0.5, 0.5, "none")') == []
        assert bookkeeping.prose(f'{axes}.text(0.5, 0.5, "one "\n    "two")') == set()
        assert list(bookkeeping.typed_formats(f'{axes}.text(0, 0, "{{x:.2f}}")')) == []
    assert lines('run.text("none")') == [1]


def test_a_sentence_is_prose_after_its_first_line():
    assert bookkeeping.prose('run.text("one "\n    "two "\n    "three")') == {2, 3}
    assert bookkeeping.prose('run.text(f"one {x:.2f}"\n    f"two {y:.2f}")') == set()


def test_formats_typed_by_hand():
    source = 'f"{x:.2f} {y}"\nrun.text("{a.b:.1%} {c} {d:yes|no}")'
    assert len(list(bookkeeping.typed_formats(source))) == 2
