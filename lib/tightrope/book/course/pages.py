"""Pages in HTML: what a student is told, the instructor's report, and the answers that are graded by hand."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

from tightrope.book.checkout import write
from tightrope.book.course.assignments import Assignment
from tightrope.book.course.hands import Hands
from tightrope.book.course.marking import BROKEN, MISTAKEN, Result

STYLE = """
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
tr + tr { border-top: 1px solid #ddd; } .n { text-align: right; white-space: nowrap; } pre { white-space: pre-wrap; }
.loud { background: #fff3cd; padding: .5rem; }
</style>"""

PAGE = (
    """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{{ title }}</title>"""
    + STYLE
)

FEEDBACK = (
    PAGE
    + """
<h1>{{ title }}</h1>
<p>{{ result.student }}: {{ total }} of {{ whole }} points.</p>
{% if result.problem %}<p>{{ result.problem }}</p>{% endif %}
{% for note in result.notes %}<p>{{ note }}</p>{% endfor %}
<table>
{% for m in result.marks %}<tr><td>{{ m.title }}</td><td class="n">{{ "%g" % m.points }} / {{ "%g" % m.out_of }}</td>
<td>{% if m.name %}<strong>{{ m.name }}</strong>: {% endif %}{{ m.says }}</td></tr>
{% endfor %}
{% for title, points, out_of in written %}<tr><td>{{ title }}</td><td class="n">{{ points }} / {{ out_of }}</td>
<td>graded by hand</td></tr>
{% endfor %}
</table>
{% if comment %}<p>{{ comment }}</p>{% endif %}
"""
)

REPORT = (
    PAGE
    + """
<p{% if not isolation.startswith("Isolated") %} class="loud"{% endif %}>{{ isolation }}</p>
<h1>{{ title }}</h1>
<p>{{ graded|length }} submissions; {{ automatic }} points by tests, {{ by_hand }} by hand.
The answers to grade by hand are in <a href="by-hand.html">by-hand.html</a>; points go into by-hand.csv.</p>
<h2>Scores by task</h2>
<table><tr><th>task</th><th class="n">points</th><th class="n">mean</th><th class="n">full points</th></tr>
{% for t in tasks %}<tr><td>{{ t.title }} ({{ t.id }})</td><td class="n">{{ "%g" % t.points }}</td>
<td class="n">{{ t.mean }}</td><td class="n">{{ t.full }} of {{ graded|length }}</td></tr>
{% endfor %}</table>
<h2>Misconceptions</h2>
{% if hits %}<table><tr><th>name</th><th class="n">hit</th><th>what the student reads</th></tr>
{% for name, count, says in hits %}<tr><td>{{ name }}</td><td class="n">{{ count }}</td><td>{{ says }}</td></tr>
{% endfor %}</table>{% else %}<p>None was met.</p>{% endif %}
<h2>What did not run</h2>
{% if broken %}<table>
{% for student, where, says in broken %}<tr><td>{{ student }}</td><td>{{ where }}</td><td>{{ says }}</td></tr>
{% endfor %}</table>{% else %}<p>Everything ran.</p>{% endif %}
<h2>Students</h2>
<table><tr><th>student</th><th class="n">points</th><th>noticed</th></tr>
{% for student, points, notes in students %}<tr><td>{{ student }}</td><td class="n">{{ points }}</td>
<td>{{ notes }}</td></tr>
{% endfor %}</table>
"""
)

ANSWERS = (
    PAGE
    + """
<h1>{{ title }}: to grade by hand</h1>
<p>Points, from 0 to what stands beside the title, go into by-hand.csv; then the same grading adds them up.</p>
{% for cell, answers in cells %}<h2>{{ cell.title }} ({{ "%g" % cell.points }})</h2>
<pre>{{ cell.source }}</pre>
{% for student, answer in answers %}<h3>{{ student }}</h3><pre>{{ answer }}</pre>
{% endfor %}{% endfor %}
"""
)


def write_all(out: Path, assignment: Assignment, graded: list[Result], hands: Hands, isolation: str) -> None:
    """Write report.html, by-hand.html, and feedback/, a page a student under the name that the platform gave them."""
    whole = assignment.automatic + assignment.by_hand
    written = assignment.of("written")
    about = {"title": f"{assignment.title} ({assignment.stem})"}
    wanted = {out / "feedback" / f"{_name(result.place)}.html": result for result in graded}
    for path, result in wanted.items():
        total = f"{result.points + hands.total(result.student):g}"
        by_hand = [(c.title, _shown(hands.points(result.student, c.id)), f"{c.points:g}") for c in written]
        said = {"result": result, "total": total, "whole": f"{whole:g}", "written": by_hand}
        write(path, _render(FEEDBACK, **about, **said, comment=hands.comment(result.student)))
    for old in (out / "feedback").glob("*.html"):
        if old not in wanted:  # of somebody whose submission is not there any more
            old.unlink()
    cells = [(cell, [(r.student, r.written.get(cell.id, "no answer")) for r in graded]) for cell in written]
    write(out / "by-hand.html", _render(ANSWERS, **about, cells=cells))
    write(
        out / "report.html",
        _render(REPORT, **about, isolation=isolation, **_report(assignment, graded, hands)),
    )


def _report(assignment: Assignment, graded: list[Result], hands: Hands) -> dict:
    """What the report shows."""
    points = defaultdict(list)
    for result in graded:
        for cell in assignment.of("test"):
            points[cell.id].append(next((m.points for m in result.marks if m.cell == cell.id), 0.0))
    tasks = [
        {"id": c.id, "title": c.title, "points": c.points, "mean": f"{sum(points[c.id]) / len(graded):.2f}"}
        | {"full": sum(p == c.points for p in points[c.id])}
        for c in assignment.of("test")
    ]
    marks = [mark for result in graded for mark in result.marks]
    says = {m.name: m.says for m in marks if m.name}
    hits = Counter(m.name for m in marks if m.name and m.why in (MISTAKEN, BROKEN))
    broken = [(r.student, r.file, r.problem) for r in graded if r.problem]
    broken += [(r.student, m.cell, m.says) for r in graded for m in r.marks if m.why == BROKEN]
    students = [(r.student, f"{r.points + hands.total(r.student):g}", " ".join(r.notes)) for r in graded]
    return {
        "graded": graded,
        "automatic": f"{assignment.automatic:g}",
        "by_hand": f"{assignment.by_hand:g}",
        "tasks": tasks,
        "hits": [(name, count, says[name]) for name, count in hits.most_common()],
        "broken": broken,
        "students": students,
    }


def _shown(points: float | None) -> str:
    return "…" if points is None else f"{points:g}"


def _name(place: str) -> str:
    return re.sub(r"\.(ipynb|zip)$", "", place)


def _render(template: str, **values: object) -> str:
    from jinja2 import Environment

    return Environment(autoescape=True, trim_blocks=True).from_string(template).render(**values)
