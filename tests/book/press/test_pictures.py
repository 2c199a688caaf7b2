import base64

import nbformat

from tightrope.book.press import pictures


def page_with(name, png):
    outputs = (
        [nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(png).decode()})] if png else []
    )
    cell = nbformat.v4.new_code_cell("plt.show()", outputs=outputs)
    cell.metadata["mystnb"] = {"figure": {"name": name, "caption": "c"}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T"), cell])


def test_a_link_to_a_run_brings_the_picture_along():
    text = "Before ![alt](run/01-a/fig-x.png) after."
    resolved, files = pictures.gather(text, {"01-a": page_with("fig-x", b"PNG")}.get)
    assert resolved == text
    assert files == {"run/01-a/fig-x.png": b"PNG"}


def test_a_picture_that_is_not_there_is_said_to_be_missing():
    for page in (page_with("fig-x", None), page_with("fig-y", b"PNG"), None):
        resolved, files = pictures.gather("![alt](run/01-a/fig-x.png)", {"01-a": page}.get)
        assert resolved == pictures.MISSING
        assert files == {}


def test_other_pictures_are_left_alone():
    text = "![alt](_static/cover.png) ![a](run/x.png)"
    assert pictures.gather(text, {}.get) == (text, {})
