import pytest

from tightrope.book.tables import Table, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.4987, "2.50"),
        (102.04, "102"),
        (12.36, "12.4"),
        (-3.14159, "-3.14"),
        (99_999.0, "99,999"),
        (0.0, "0"),
        (5.1e-7, "5.10e-07"),
        (10_000, "10,000"),
        (float("inf"), "not met"),
        (True, "True"),
        ("u₁", "u₁"),
    ],
)
def test_numbers_as_a_person_writes_them(value, text):
    assert number(value) == text


def test_html_escapes_and_marks_one_column():
    html = Table(["S", "median"], [["<u₁>", 2.5]], mark=1)._repr_html_()
    assert "&lt;u₁&gt;" in html
    assert html.count("<strong>") == 2
    assert "<strong>2.50</strong>" in html


def test_text_is_aligned_and_rows_must_fit():
    assert repr(Table(["a", "b"], [["x", 1], ["long", 22]])) == "a     b\nx     1\nlong  22"
    with pytest.raises(ValueError, match="2 cells"):
        Table(["a", "b"], [["x"]])
