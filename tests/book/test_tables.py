import math

import numpy as np
import pytest
import torch

from tightrope.book.results import Result
from tightrope.book.tables import Table, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.4987, "2.50"),
        (102.04, "102"),
        (12.36, "12.4"),
        (-3.14159, "−3.14"),
        (-10_000, "−10,000"),
        (99_999.0, "99,999"),
        (0.0, "0"),
        (5.1e-7, "5.10·10⁻⁷"),
        (-2.5e12, "−2.50·10¹²"),
        (9.996, "10.0"),
        (np.float32(0.5), "0.500"),
        (torch.tensor(3), "3"),
        ((1, 2.5), "1, 2.50"),
        (10_000, "10,000"),
        (float("inf"), "not met"),
        (True, "yes"),
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


def test_a_caption_and_heads_may_hold_formulas():
    table = Table(["a < $b<c$", "d"], [["$x$", 1.0]], caption="Of $y$ & more.")
    html = table._repr_html_()
    formula = '<span class="math notranslate nohighlight" role="math" aria-label="{0}">\\({0}\\)</span>'
    assert f"<caption>Of {formula.format('y')} &amp; more.</caption><thead>" in html
    assert f'<th scope="col">a &lt; {formula.format("b&lt;c")}</th>' in html
    assert f"<td>{formula.format('x')}</td>" in html
    assert repr(table).startswith("Of $y$ & more.\na < $b<c$")
    assert "<caption>" not in Table(["a"], [["b"]])._repr_html_()


def test_text_is_aligned_and_rows_must_fit():
    assert repr(Table(["a", "b"], [["x", 1], ["long", 22]])) == "a     b\nx     1\nlong  22"
    with pytest.raises(ValueError, match="2 cells"):
        Table(["a", "b"], [["x"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.50, "2.5"),
        (1_000, "1,000"),
        ((1_000, 0.625), "1,000, 0.625"),
        (1e-5, "10⁻⁵"),
        (-1e-5, "−10⁻⁵"),
        (1.1e-5, "1.1·10⁻⁵"),
        (0.0, "0"),
        (229.5, "229.5"),
    ],
)
def test_numbers_that_were_set_keep_their_digits(value, text):
    assert number(value, None) == text


def test_a_result_is_a_number_with_what_it_is_worth():
    r = Result(2.5, (1.0, math.inf), n=5)
    assert (str(r), f"{r:.1f}", f"{r:1}", float(r)) == ("2.50 (1.00–not met)", "2.5", "2", 2.5)
    assert str(Result(2.5, (-1, 3))) == "2.50 (−1 to 3)"
    assert str(Result(2.5, (2.5, 2.5))) == "2.50"
    assert str(Result(0.99, (0.9899, 0.9901))) == "0.990"  # a bracket that prints as a point
    assert str(Result(1.2e-15, (1e-16, 3e-15))) == "10⁻¹⁵ (10⁻¹⁶–3·10⁻¹⁵)"
    assert str(Result(1.2e-15, (0.0, 0.1))) == "1.20·10⁻¹⁵ (0–0.100)"
    assert f"{Result(-1.25):+.1f}" == "−1.2"
    assert (f"{Result(5e-7):.0e}", f"{Result(0.0):.0e}", f"{Result(-0.0):.1e}") == ("5·10⁻⁷", "0", "0")
    assert repr(Table(["", "x"], [["a", r], ["b", None]])) == "   x\na  2.50 (1.00–not met)\nb  –"
