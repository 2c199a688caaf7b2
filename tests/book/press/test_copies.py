"""A chapter's text as Markdown that any notebook reader understands."""

import pytest

from tightrope.book.press import copies
from tightrope.book.press.copies import plain

NAMES = copies.Names(
    site="https://example.org/",
    titles={"notation": "Notation", "02-second": "Second"},
    numbers={
        "fig-a": "Fig. 1.1",
        "thm-a": "Theorem 1.2",
        "eq-a": "(1.3)",
        "ex-a": "Exercise 1.1",
        "far": "Fig. 2.1",
    },
    pages={"fig-a": "01-first", "far": "02-second", "eq-far": "02-second", "lib.f": "api"},
    sources={"a2020": ("A et al. 2020", "https://doi.org/1"), "b1999": ("B 1999", "")},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See {numref}`fig-a` and {prf:ref}`thm-a`.", "See Fig. 1.1 and Theorem 1.2."),
        ("By {eq}`eq-a`", "By (1.3)"),
        ("{numref}`far`", "[Fig. 2.1](https://example.org/book/02-second.html#far)"),
        ("{ref}`there <far>`", "[there](https://example.org/book/02-second.html#far)"),
        ("{doc}`notation`", "[Notation](https://example.org/book/notation.html)"),
        ("{cite}`a2020,b1999`", "([A et al. 2020](https://doi.org/1); B 1999)"),
        ("{cite:t}`a2020` says", "[A et al. (2020)](https://doi.org/1) says"),
        ("{py:func}`m.f <lib.f>`", "[`m.f`](https://example.org/book/api.html#lib.f)"),
        ("{math}`x^2`", "$x^2$"),
        ("[next](02-second)", "[next](https://example.org/book/02-second.html)"),
        ("[out](https://example.com)", "[out](https://example.com)"),
        ("$$\nx\n$$ (eq-a)", "$$\nx \\tag{1.3}\n$$"),
        ("$$x$$ (eq-a)", "$$x \\tag{1.3}\n$$"),
        ("(slip-a)=\n% a comment\nText.", "Text."),
        ("```python\n{ref}`fig-a`\n```", "```python\n{ref}`fig-a`\n```"),
        ("`{x}` and ``{y}``", "`{x}` and ``{y}``"),
        (
            "```{prf:theorem} Of $x$\n:label: thm-a\n\nBody.\n```\n\nAfter.",
            "**Theorem 1.2 (Of $x$).**\n\nBody.\n\nAfter.",
        ),
        ("```{exercise}\n:label: ex-a\n\nWhy?\n```", "**Exercise 1.1.**\n\nWhy?"),
        (
            "```{solution} ex-a\n:class: dropdown\n\nSo.\n```",
            "<details>\n<summary>Solution of Exercise 1.1</summary>\n\nSo.\n\n</details>",
        ),
        (
            ":::{admonition} In short\n:class: tip\n\nOne.\n\nTwo.\n:::",
            "> **In short**\n>\n> One.\n>\n> Two.",
        ),
        ("````{note}\n```python\nx = 1\n```\n````", "> **Note**\n>\n> ```python\n> x = 1\n> ```"),
        (":::{admonition} In short\n\n$$x$$\n:::", "**In short**\n\n$$x$$"),
    ],
)
def test_what_only_the_site_understands_is_plain(text, expected):
    assert plain(text, "01-first", NAMES) == expected


def test_without_an_address_there_are_names_and_no_links():
    names = copies.Names(
        titles={"notation": "Notation"}, numbers={"far": "Fig. 2.1"}, pages={"far": "02-second"}
    )
    assert (
        plain("{doc}`notation`, {numref}`far`, {cite}`b1999`", "01-first", names)
        == "Notation, Fig. 2.1, (b1999)"
    )
