"""Whether a student's code, where it was to do the work itself, had a function of the library do it.

    with without(margins, line_scan.nearest):
        found = margin(net, x, space)

Inside of the block a function that is named (of a module: every public one) does not run: whoever calls it, under
whatever name, meets a `BaseException`, and the block ends in an AssertionError that says which function it was, also
where that exception was swallowed. What counts is what ran: an import that is never used is none of its business.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SENTENCE = re.compile(r"\[used-the-library\] tightrope\.[\w.]+ did the work that this task asks you to write")
_caught: list[str] = []


class UsedTheLibrary(BaseException):
    """Not an Exception, so that `except Exception` lets it through."""


def caught(name: str) -> None:
    """What a function does in place of its own work."""
    _caught.append(name)
    raise UsedTheLibrary(name)


@contextmanager
def without(*forbidden: Callable | types.ModuleType) -> Iterator[None]:
    """Functions, or modules whose public functions are meant. AssertionError at the end if any of them was called."""
    functions = dict.fromkeys(f for thing in forbidden for f in _functions(thing))
    kept = {function: function.__code__ for function in functions}
    _caught.clear()
    try:
        for function in kept:
            function.__code__ = _tripwire(function)
        yield
    except UsedTheLibrary:
        pass
    finally:
        for function, code in kept.items():
            function.__code__ = code
        used = _caught[:1]
    if used:
        raise AssertionError(f"[used-the-library] {used[0]} did the work that this task asks you to write")


def _functions(thing: Callable | types.ModuleType) -> Iterator[types.FunctionType]:
    if isinstance(thing, types.ModuleType):
        values = (getattr(thing, name) for name in dir(thing) if not name.startswith("_"))
        own = lambda v: isinstance(v, types.FunctionType) and v.__module__.startswith(thing.__name__)
        yield from filter(own, values)  # what it imports from elsewhere is not its own
    else:
        yield thing


def _tripwire(function: types.FunctionType) -> types.CodeType:
    """Code that takes any arguments and reports the function's name; it closes over as many names as the function's."""
    free = function.__code__.co_freevars
    inner = f"{' = '.join([*free, 'None'])}\n    " if free else ""
    use = f"({', '.join(free)},)\n        " if free else ""
    source = (
        f"def outer():\n    {inner}def trap(*_, **__):\n        {use}"
        "from tightrope.book.course.without import caught\n"
        f"        caught({f'{function.__module__}.{function.__qualname__}'!r})\n    return trap\n"
    )
    made: dict[str, Callable] = {}
    exec(source, made)
    return made["outer"]().__code__
