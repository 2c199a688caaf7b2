"""What decides a claim. A test is a range; a quantity passes where its whole interval lies inside, fails where all of
it lies outside, and is undecided where the interval straddles the edge. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tightrope.book.statements import Claim
from tightrope.book.tables import number

REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_RUN = "reproduced", "not reproduced", "undecided", "not run"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, UNDECIDED, NOT_RUN)
MARKS = dict(zip(VERDICTS, "✓✗?–", strict=True))
# What is true by construction, and what is a finding of the book's own, is not reproduced: it holds, or it does not.
_HOLDS = {REPRODUCED: "holds", NOT_REPRODUCED: "does not hold"}

Range = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """kind: one of VERDICTS. Where undecided, n: about how many values would decide, in place of how many there are;
    None where nobody can say. Values of what, images or seeds, stands beside the quantity.
    """

    kind: str
    n: int | None = None
    there: int | None = None

    def words(self, claim: Claim) -> str:
        """The verdict as a page shows it."""
        said = _HOLDS.get(self.kind, self.kind) if claim.own or claim.kind == "identity" else self.kind
        if not self.n:
            return f"{MARKS[self.kind]} {said}"
        about = int(float(f"{self.n:.1e}"))  # two digits: it is an estimate
        return f"{MARKS[self.kind]} {said} (n of about {number(about)} in place of {number(self.there)} would decide)"


def judge(claim: Claim, record: Mapping[str, Any] | None) -> Verdict:
    """The verdict on a claim by a record: not run where there is none, where it lacks a quantity, or in smoke."""
    if record is None or record["profile"] == "smoke" or record["chapter"] != claim.chapter:
        return Verdict(NOT_RUN)
    entries = [record["quantities"].get(name) for name in claim.quantity]
    if None in entries:
        return Verdict(NOT_RUN)
    if claim.rule[0] == "holds":
        return Verdict(REPRODUCED if all(entry["value"] is True for entry in entries) else NOT_REPRODUCED)
    around = [_interval(entry) for entry in entries]
    if claim.rule[0] == "increasing":
        return _joined([(b[0] > a[1], b[1] <= a[0]) for a, b in pairwise(around)])
    allowed = ranges(claim)
    inside = [low <= a and b <= high for (a, b), (low, high) in zip(around, allowed, strict=True)]
    outside = [b < low or a > high for (a, b), (low, high) in zip(around, allowed, strict=True)]
    verdict = _joined(list(zip(inside, outside, strict=True)))
    if verdict.kind != UNDECIDED:
        return verdict
    open_ones = [i for i in range(len(entries)) if not inside[i]]
    wanted = [_deciding(entries[i], around[i], allowed[i]) for i in open_ones]
    if None in wanted:
        return Verdict(UNDECIDED)
    return Verdict(UNDECIDED, *max((n, entries[i]["n"]) for n, i in zip(wanted, open_ones, strict=True)))


def ranges(claim: Claim) -> list[Range]:
    """What each quantity of the claim may be, both ends included."""
    test, bound = claim.rule
    match test:
        case "within":
            return [(p - bound * abs(p), p + bound * abs(p)) for p in claim.printed]
        case "factor":
            return [tuple(sorted((p / bound, p * bound))) for p in claim.printed]
        case "at_least":
            return [(bound, math.inf)] * len(claim.quantity)
        case "at_most":
            return [(-math.inf, bound)] * len(claim.quantity)
        case "between":
            return [tuple(bound)] * len(claim.quantity)
        case _:
            raise ValueError(f"The test {test} has no range.")


def rule(claim: Claim) -> str:
    """What counts, in words, as it stands beside the verdict."""
    test, bound = claim.rule
    return {
        "within": lambda: f"within {number(100 * bound, None)} %",
        "factor": lambda: f"within a factor of {number(bound, None)}",
        "at_least": lambda: f"at least {number(bound, None)}",
        "at_most": lambda: f"at most {number(bound, None)}",
        "between": lambda: f"from {number(bound[0], None)} to {number(bound[1], None)}",
        "increasing": lambda: "each larger than the one before",
        "holds": lambda: "yes",
    }[test]()


def _joined(each: Sequence[tuple[bool, bool]]) -> Verdict:
    if any(outside for _, outside in each):
        return Verdict(NOT_REPRODUCED)
    return Verdict(REPRODUCED if all(inside for inside, _ in each) else UNDECIDED)


def _interval(entry: Mapping[str, Any]) -> Range:
    low, high = entry.get("interval") or (entry["value"],) * 2
    # An interval that reaches into what was not met ends nowhere.
    return low, math.inf if entry.get("censored") and entry.get("interval") else high


def _deciding(entry: Mapping[str, Any], around: Range, allowed: Range) -> int | None:
    """At which n an interval that shrinks like 1/√n would clear the edge it straddles. A range of seeds does not
    shrink, and a value that stands on the edge never clears it."""
    value, n = entry["value"], entry.get("n")
    if not n or entry.get("kind") == "range":
        return None
    need = 1.0
    for edge in allowed:
        reach = around[1] - value if edge > value else value - around[0]
        if around[0] <= edge <= around[1]:
            if edge == value or not math.isfinite(reach):
                return None
            need = max(need, (reach / abs(edge - value)) ** 2)
    return math.ceil(n * need)


def kept(claim: Claim) -> dict[str, Any]:
    """What a stored run keeps of the rule that a claim was judged by."""
    printed = list(claim.published) if isinstance(claim.published, tuple) else claim.published
    return {"quantity": list(claim.quantity), "test": claim.test, "published": printed}
