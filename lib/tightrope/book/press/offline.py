"""A Sphinx extension: pages that ask no other machine for anything.

MathJax comes from the wheel `sphinx-mathjax-offline`, one file of which is copied beside the pages. What the theme
and its companions would load from elsewhere (thebe, widgets) is dropped; the book uses none of it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

MATHJAX = "mathjax/tex-svg-full.js"  # 3.2.2: all of TeX, drawn as SVG, so no font files
_FOREIGN = re.compile(r"^\s*(?:https?:)?//")


def setup(app) -> dict:
    app.connect("config-inited", _use_mathjax)
    app.connect("html-page-context", _drop_foreign, priority=900)
    app.connect("build-finished", _copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _use_mathjax(app, config) -> None:
    config.mathjax_path = MATHJAX


def _drop_foreign(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context.get(kind, ()) if not _is_foreign(asset)]


def _is_foreign(asset: object) -> bool:
    name = str(getattr(asset, "filename", None) or asset)
    body = getattr(asset, "attributes", {}).get("body") or ""
    return bool(_FOREIGN.match(name)) or "thebe" in name or "THEBE_JS_URL" in body


def _copy_mathjax(app, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        target = Path(app.outdir) / "_static" / MATHJAX
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_mathjax_file(), target)


def _mathjax_file() -> Path:
    # The wheel's folder has a hyphen in its name and is no importable package; its list of files finds it.
    from importlib.metadata import files

    for path in files("sphinx-mathjax-offline") or ():
        if path.match("static/" + MATHJAX):
            return Path(path.locate())
    raise FileNotFoundError("sphinx-mathjax-offline holds no tex-svg-full.js; install it again.")
