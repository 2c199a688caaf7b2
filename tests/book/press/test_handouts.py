"""What the page for teachers offers: every assignment, as students get it; and a sentence where it can't be made."""

import io
import zipfile

import pytest

from tightrope.book.checkout import find_checkout
from tightrope.book.course import assignments
from tightrope.book.press import handouts

BOOK = find_checkout()


@pytest.fixture(scope="module")
def offered():
    return handouts.page(BOOK)


def test_every_assignment_is_listed_and_its_zip_holds_its_release_and_no_secret(offered):
    text, files = offered
    stems = assignments.names(BOOK)
    assert stems
    assert {*files} == {f"{handouts.FOLDER}/{stem}.zip" for stem in [*stems, "all"]}
    assert all(f"({name})" in text for name in files)
    for stem in stems:
        with zipfile.ZipFile(io.BytesIO(files[f"{handouts.FOLDER}/{stem}.zip"])) as archive:
            assert archive.namelist() == [f"{stem}.ipynb"]
            released = archive.read(f"{stem}.ipynb").decode()
        assignment = assignments.load(BOOK, stem)
        assert assignment.secrets
        assert not assignment.leaks(released)
        assert assignment.title in text


def test_a_reader_without_what_makes_them_is_told(monkeypatch):
    monkeypatch.setattr(handouts, "find_spec", lambda name: None)
    assert handouts.page(BOOK) == (handouts.ABSENT, {})


def test_the_page_for_teachers_asks_for_the_list():
    assert "% assignments" in (BOOK.book / "teaching.md").read_text("utf-8").split("\n")
