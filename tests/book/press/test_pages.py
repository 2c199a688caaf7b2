"""The book itself: every chapter in smoke, the site made from them, and what a reader's browser makes of it."""

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tightrope.book import records, slips
from tightrope.book.checkout import Checkout
from tightrope.book.press import checks, pairs

ROOT = Path(__file__).resolve().parents[3]
OUT = ROOT / "build" / "smoke"  # the reader's own site, in build/_build, stays as it is
CHECKOUT = Checkout(ROOT)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def site() -> Path:
    """The built book, from chapters executed in smoke (executions of the same code are kept between calls)."""
    command = [
        sys.executable,
        "-m",
        "tightrope",
        "book",
        "--profile",
        "smoke",
        "--device",
        "cpu",
        "--out",
        str(OUT),
    ]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return OUT / "_build" / "html"


def test_the_pages_are_fit_to_publish(site):
    assert checks.site(site) == []


def test_the_files_in_git_are_pairs_without_outputs():
    assert checks.chapters(CHECKOUT) == []


def test_every_chapter_was_executed_and_says_how(site):
    for chapter in CHECKOUT.chapters():
        page = (site / "book" / f"{chapter}.html").read_text()
        assert "smoke profile" in page
        assert "Not executed" not in page


def test_pages_are_light(site):
    for page in CHECKOUT.pages():
        path = site / f"{page}.html"
        pictures = {path.parent / name for name in re.findall(r'<img[^>]+src="([^":]+)"', path.read_text())}
        assert path.stat().st_size + sum(p.stat().st_size for p in pictures) < 3e6, page
    assert sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) < 40e6


MARKUP = re.compile(r"(?<!`)\{[a-z][\w:]*\}`|^[ \t]*[`:]{3,}\{|^\([\w-]+\)=$|^\$\$[ \t]*\(", re.M)


def test_the_copies_to_run_hold_no_markup_of_the_site_and_the_same_code(site):
    for chapter in CHECKOUT.chapters():
        page = pairs.read_notebook(site / "_sources" / "book" / f"{chapter}.ipynb")
        pair = pairs.read_notebook(CHECKOUT.notebook(chapter))
        code = [[c.source for c in notebook.cells if c.cell_type == "code"] for notebook in (page, pair)]
        assert code[0] == code[1]
        for cell in page.cells:
            found = MARKUP.findall(cell.source) if cell.cell_type == "markdown" else []
            assert found == [], (chapter, cell.source[:200])


def test_a_chapter_records_what_its_slips_name(site):
    for slip in slips.load(CHECKOUT.book / "slips.yml"):
        record = records.read(CHECKOUT.record("smoke", slip.chapter))
        assert set(slip.quantity) <= record["quantities"].keys(), slip.id


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        said = "NO CHROMIUM ON THIS MACHINE: no browser has looked at the pages (apt-get install chromium)"
        warnings.warn(said, stacklevel=1)
        pytest.skip(said)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


class Look:
    """One page, opened from its file with the network off."""

    def __init__(self, browser, url: str, size: dict, scheme: str) -> None:
        self.asked, self.errors = [], []
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
        self.page = context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_function(
            "!window.MathJax || (MathJax.startup && MathJax.startup.promise)", timeout=30_000
        )
        self.page.evaluate("window.MathJax && MathJax.startup.promise")

    def ask(self, script: str):
        return self.page.evaluate(script)

    def close(self) -> None:
        self.page.context.close()


@pytest.fixture(
    scope="module", params=[(DESK, "light"), (PHONE, "light"), (PHONE, "dark")], ids=["desk", "phone", "dark"]
)
def looks(request, site, browser):
    """Every page of the book at one size, in one colour scheme."""
    size, scheme = request.param
    opened = {
        page: Look(browser, (site / f"{page}.html").as_uri(), size, scheme) for page in CHECKOUT.pages()
    }
    yield opened
    for look in opened.values():
        look.close()


def test_a_page_asks_no_other_machine_and_no_script_fails(looks):
    for name, look in looks.items():
        assert [url for url in look.asked if not url.startswith(("file:", "data:", "blob:"))] == [], name
        assert look.errors == [], name


def test_a_chapter_has_the_number_of_its_file(looks):
    numbered = 0
    for name, look in looks.items():
        if file := re.search(r"(\d+)-[^/]*$", name):
            numbers = look.ask(
                "[...document.querySelectorAll('.bd-article .section-number')].map(e => parseInt(e.innerText))"
            )
            assert set(numbers) == {int(file[1])}, name
            numbered += 1
    assert numbered


def test_axe_finds_nothing(looks, request):
    if "phone" in request.node.callspec.id:
        pytest.skip("once in light and once in dark")
    from axe_playwright_python.sync_playwright import Axe

    for name, look in looks.items():
        look.page.wait_for_timeout(100)  # for what is done when the formulas are drawn
        found = Axe().run(look.page).response["violations"]
        said = [f"{v['id']}: {v['nodes'][0]['html'][:120]}" for v in found]
        assert said == [], name


DRAWN = """[...document.querySelectorAll('.bd-article mjx-container svg')].filter(
  svg => svg.closest('details:not([open]), .toggle-hidden') || svg.getBoundingClientRect().width > 0
).length"""


def test_maths_is_drawn(looks):
    drawn = 0
    for name, look in looks.items():
        written = look.ask("document.querySelectorAll('.bd-article .math').length")
        shown = look.ask(DRAWN)
        assert shown >= written, name
        assert look.ask("document.querySelectorAll('[data-mjx-error], mjx-merror').length") == 0, name
        drawn += shown
    assert drawn > 20


# What sticks out to the right, though it does not lie in something that scrolls by itself.
WIDE = """[...document.querySelectorAll('.bd-article > section, .bd-article p, .bd-article figure, .bd-article img')]
  .filter(e => !e.closest(".cell_output, pre, mjx-container, table"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 80))"""


def test_a_page_never_scrolls_sideways(looks):
    for name, look in looks.items():
        assert look.ask("document.documentElement.scrollWidth <= innerWidth"), name
        wide = look.ask(WIDE)
        assert wide == [], name


VERDICTS = "[...document.querySelectorAll('.tightrope-claims tbody td:last-child')]"


def test_a_verdict_is_seen_without_scrolling_its_table(looks):
    seen = 0
    for name, look in looks.items():
        right = look.ask(f"{VERDICTS}.map(e => e.getBoundingClientRect().right - innerWidth)")
        assert all(beyond <= 0 for beyond in right), name
        seen += len(right)
    assert seen > 100


SCROLLS = """[...document.querySelectorAll('table:is(.tightrope-claims, .tightrope-forest)')]
  .filter(e => e.parentElement.scrollWidth > e.parentElement.clientWidth + 1).length"""


def test_tables_of_claims_fit_at_any_width(site, browser):
    for name in CHECKOUT.pages():
        page = browser.new_page(offline=True)
        page.goto((site / f"{name}.html").as_uri())
        for width in (320, 390, 577, 641, 700, 768, 1000, 1200, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(SCROLLS) == 0, (name, width)
        page.close()


# What would be cut off on paper, and what only a screen can use.
CUT = """[...document.querySelectorAll('.bd-article pre')]
  .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1).map(e => e.innerText.slice(0, 60))"""
USELESS = """['.bd-sidebar-primary', '.bd-sidebar-secondary', '.bd-header-article', '.prev-next-footer', '.headerlink',
  '.copybtn', '.toggle-button', 'details.hide > summary .collapsed', 'details.hide > summary .expanded']
  .filter(s => [...document.querySelectorAll(s)].some(e => e.checkVisibility()))"""
FOLDED = """[...document.querySelectorAll('.bd-article details:not([open], .above-input), .toggle-hidden .section')]
  .filter(e => e.tagName == 'DETAILS' || getComputedStyle(e).visibility == 'hidden').length"""


def test_on_paper_no_code_is_cut_and_what_is_folded_stands_open(site, browser):
    for name in CHECKOUT.pages():
        page = browser.new_page(viewport={"width": 680, "height": 900}, color_scheme="dark", offline=True)
        page.goto((site / f"{name}.html").as_uri())
        folded = page.evaluate(FOLDED)
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(CUT) == [], name
        assert page.evaluate(USELESS) == [], name
        assert page.evaluate(FOLDED) == 0, name
        assert _luminance(page.evaluate("getComputedStyle(document.querySelector('h1')).color")) < 0.2, name
        page.emulate_media(media="screen")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(FOLDED) == folded, name
        page.close()


LONG = """[...document.querySelectorAll('.bd-article mjx-container[display=true]')]
  .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.parentElement.id)"""


def test_a_formula_fits_beside_its_number(looks, request):
    if "desk" not in request.node.callspec.id:
        pytest.skip("on a phone a formula may scroll")
    for name, look in looks.items():
        assert look.ask(LONG) == [], name


def test_every_picture_is_there(looks):
    for name, look in looks.items():
        look.ask(
            "Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode().catch(() => 0); }))"
        )
        missing = look.ask("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
        assert missing == [], name


COLOURS = r"""part => {
  const element = document.querySelector('.bd-article ' + part)
  if (!element) return null
  let under = element
  const clear = e => /, 0([.]\d+)?[)]$/.test(getComputedStyle(e).backgroundColor)  // or tinted
  while (under.parentElement && clear(under)) under = under.parentElement
  return [getComputedStyle(element).color, getComputedStyle(under).backgroundColor]
}"""


def test_text_stands_out_from_its_ground(looks, request):
    dark = "dark" in request.node.callspec.id
    for name, look in looks.items():
        ground = _luminance(look.ask("getComputedStyle(document.body).backgroundColor"))
        assert (ground < 0.1) == dark, name
        for part in (
            "p",
            "h1",
            "p a[href]",
            ".run-strip",
            "div.cell_input pre",
            "figcaption",
            "th",
            "td",
            "div.proof p",
        ):
            colours = look.page.evaluate(COLOURS, part)
            if colours:
                low, high = sorted(map(_luminance, colours))
                assert (high + 0.05) / (low + 0.05) > 4.5, (name, part, colours)


def test_a_folded_solution_opens(looks):
    folded = 0
    for look in looks.values():
        for i in range(look.ask("document.querySelectorAll('div.solution.dropdown').length")):
            part = look.page.locator("div.solution.dropdown").nth(i)
            assert not part.locator(".section, section").first.is_visible()
            part.locator("button, summary, .toggle-button").first.click()
            assert part.locator(".section, section").first.is_visible()
            folded += 1
            break
    assert folded


def _luminance(colour: str) -> float:
    """WCAG's relative luminance of a CSS colour like rgb(1, 2, 3)."""
    parts = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
