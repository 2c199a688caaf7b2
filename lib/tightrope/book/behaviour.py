"""What code a network's output depends on, beyond its structure and weights; and what an adversary's does.

Classes and functions of a chapter or of a module beside it are followed by name: methods and what they call, modules
by their whole file, plain values by content, the library's own by `code`. torch and other installed packages go by
version. Whatever cannot be named so is `Unreadable`, and such a network is not kept.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

from torch import nn

from tightrope.book import code
from tightrope.fingerprint import fingerprint

_OURS = "tightrope"
_HOOKS = {"_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"}
_INNER = frozenset(vars(nn.Module())) - _HOOKS
_NO_CODE = {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__"} | {
    "__firstlineno__", "__static_attributes__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__",
    "_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__repr__",
}  # fmt: skip
_INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")]


class Unreadable(Exception):
    """Something that a network's code reaches has no name that changes when it does."""


class Behaviour:
    """Collects what a network reaches, or other things do. parts: the user's own, as text; library: names of ours,
    "tightrope.models.nets.lenet", and whatever words the user's code mentions, for `code.key` to look up."""

    def __init__(self, *things: object) -> None:
        self.parts: list[str] = []
        self.library: set[str] = set()
        self._seen: dict[int, tuple[int, object]] = {}
        for thing in things:
            self.visit(thing)

    def visit(self, thing: object) -> None:
        """Follow one value. Raises Unreadable."""
        if isinstance(thing, nn.Module | ModuleType | type | FunctionType | list | dict):
            if id(thing) in self._seen:
                self.parts.append(f"again {self._seen[id(thing)][0]}")
                return
            self._seen[id(thing)] = len(self._seen), thing
        match thing:
            case nn.Module():
                self._value(thing)
                self._network(thing)
            case ModuleType():
                self._module(thing)
            case type():
                self._class(thing)
            case FunctionType():
                self._function(thing)
            case MethodType():
                self._all(thing.__func__, thing.__self__)
            case staticmethod() | classmethod():
                self.visit(thing.__func__)
            case property():
                self._all(thing.fget, thing.fset)
            case functools.partial():
                self._all(thing.func, thing.args, thing.keywords)
            case BuiltinFunctionType():
                self.parts.append(f"{thing.__module__}.{thing.__qualname__}")
            case list() | tuple():
                self._all(*thing)
            case dict():
                self._all(*thing.items())
            case _ if hasattr(thing, "__wrapped__"):
                self.visit(thing.__wrapped__)
            case _ if dataclasses.is_dataclass(thing):
                self._all(type(thing), *(getattr(thing, field.name) for field in dataclasses.fields(thing)))
            case _:
                self._value(thing)

    def _all(self, *things: object) -> None:
        self.parts.append(str(len(things)))
        for thing in things:
            self.visit(thing)

    def _value(self, thing: object) -> None:
        try:
            self.parts.append(fingerprint(thing))
        except ValueError as error:
            raise Unreadable(f"{thing!r}") from error

    def _network(self, net: nn.Module) -> None:
        for module in net.modules():
            kind = type(module)
            self.visit(kind)
            torchs = _installed(kind.__module__)
            for name, value in sorted(vars(module).items()):
                if name in _HOOKS:
                    self._all(*value.values())
                elif name not in _INNER and not (
                    torchs and name.startswith("_")
                ):  # how torch keeps its house
                    self.parts.append(name)
                    self.visit(value)

    def _module(self, module: ModuleType) -> None:
        if not self._goes_by_name(module.__name__, module.__name__):
            file = getattr(module, "__file__", None)
            if file is None:
                raise Unreadable(module.__name__)
            self.parts.append(code.cell_form(Path(file).read_text("utf-8")))
            for name, value in sorted(vars(module).items()):  # what it imports; the rest stands in the file
                if isinstance(value, ModuleType) or _home(value) not in (None, module.__name__):
                    self.parts.append(name)
                    self.visit(value)

    def _class(self, kind: type) -> None:
        if not self._goes_by_name(kind.__module__, f"{kind.__module__}.{kind.__qualname__.split('.')[0]}"):
            self.parts.append(kind.__qualname__)
            self._all(*kind.__bases__)
            for name, member in sorted(vars(kind).items()):
                if name not in _NO_CODE and not _generated(member):
                    self.parts.append(name)
                    self.visit(member)

    def _function(self, function: FunctionType) -> None:
        home = function.__module__ or ""
        if not self._goes_by_name(home, f"{home}.{function.__qualname__.split('.')[0]}"):
            self._all(function.__defaults__ or (), function.__kwdefaults__ or {})
            self._code(function.__code__, function)
            try:
                self._all(*(cell.cell_contents for cell in function.__closure__ or ()))
            except ValueError as error:  # a name that is not bound yet
                raise Unreadable(function.__qualname__) from error

    def _code(self, body: CodeType, function: FunctionType) -> None:
        documented = body.co_consts[:1] == (function.__doc__,) and function.__doc__ is not None
        consts = [c for c in body.co_consts[documented:] if not isinstance(c, CodeType)]
        shown = [sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c) for c in consts]
        self.parts.append(
            f"{body.co_code.hex()} {shown} {body.co_names} {body.co_varnames} {body.co_freevars}"
        )
        self.library.update(body.co_names)
        for step in dis.get_instructions(body):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in function.__globals__:
                self.parts.append(step.argval)
                self.visit(function.__globals__[step.argval])
        for inner in body.co_consts:
            if isinstance(inner, CodeType):
                self._code(inner, function)

    def _goes_by_name(self, home: str, name: str) -> bool:
        """Whether a thing of module `home` is the library's or an installed package's."""
        package = home.split(".")[0]
        if package == _OURS:
            self.library.add(name)
        elif not _installed(home):
            return False
        elif package != "torch":  # which is in every key
            self.parts.append(f"{package} {_version(package)}")
        return True


def _generated(member: object) -> bool:
    """Whether `dataclass` wrote it: from the fields, whose values count themselves."""
    return isinstance(member, FunctionType) and member.__code__.co_filename == "<string>"


def _home(thing: object) -> str | None:
    return getattr(thing, "__module__", None) if isinstance(thing, type | FunctionType) else None


@functools.cache
def _installed(home: str) -> bool:
    package = home.split(".")[0]
    if package in sys.builtin_module_names or package in sys.stdlib_module_names:
        return package != "__main__"
    file = getattr(sys.modules.get(package), "__file__", None)
    return file is not None and any(Path(file).resolve().is_relative_to(folder) for folder in _INSTALLED)


@functools.cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", sys.version_info[:2]))
