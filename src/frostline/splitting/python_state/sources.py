"""The code of a model: the functions that run, those that they name, and the names that they read and write."""

from __future__ import annotations

import dis
import functools
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from frostline.core.code_names import Cells, is_installed, is_library, loaded, nested

_LRU = type(functools.lru_cache(len))
_ATOMS = (str, bytes, int, float, complex, type(None), Tensor)
_METHODS = (FunctionType, property, classmethod, staticmethod, functools.cached_property, _LRU)
# Methods that Python calls where no code names them, but for those that make or copy an object.
_MAKING = frozenset(f"__{name}__" for name in ("init", "new", "post_init", "init_subclass", "set_name", "del", "repr",
                                               "reduce", "getstate", "setstate", "copy", "deepcopy"))  # fmt: skip
_OF_FUNCTIONS = ("forward", "backward", "setup_context", "jvp")
_MAX_REGISTERED = 64
_WRITES = ("STORE_ATTR", "STORE_GLOBAL", "DELETE_ATTR")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_BY_TEXT = frozenset(("getattr", "setattr", "hasattr", "vars", "__dict__", "attrgetter", "__getattribute__", "globals"))
_AS_CODE = frozenset(("eval", "exec"))


@dataclass(frozen=True)
class Source:
    """The code of a model that ran: what it reads from its globals and closures, and the attributes it names."""

    code: CodeType
    scope: Mapping[str, Any]
    closure: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of_frame(cls, frame: FrameType) -> Source:
        """The code that a frame runs."""
        names = frame.f_code.co_freevars
        held = {name: frame.f_locals[name] for name in names if name in frame.f_locals} if names else {}
        return cls(frame.f_code, frame.f_globals, held)

    @classmethod
    def of_function(cls, function: FunctionType) -> Source:
        """The code of a function that did not call torch itself."""
        held = Cells(function)
        own, values = function.__code__, function.__defaults__ or ()
        named = own.co_varnames[own.co_argcount - len(values) : own.co_argcount]
        defaults = {**dict(zip(named, values, strict=True)), **(function.__kwdefaults__ or {})}
        return cls(own, function.__globals__, held, defaults)


def sources_of(module: nn.Module, *, has_train: bool = True) -> list[Source]:
    """The code that a call of the module, or of its `train`, begins with: forward, and hooks."""
    functions: list[Any] = [inspect.getattr_static(type(module), "forward"), vars(module).get("forward")]
    functions += [type(module).train] if has_train else []
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        functions += hooks.values()
    plain = [getattr(function, "__func__", function) for function in functions]
    return [Source.of_function(own) for own in plain if isinstance(own, FunctionType) and not is_library(own)]


def with_callees(sources: Iterable[Source], modules: Iterable[nn.Module]) -> list[Source]:
    """The code, and the functions and methods that it calls by name: no listener sees those that call no torch.

    What else it may run (properties, metaclasses, methods that Python calls by itself) is left out: in a library, most
    of it belongs to objects that others pass around, and nearly every layer would count as one that exchanges values.
    """
    return _reached(_Callees(sources, is_wide=False), modules).found()


def reached_from(sources: Iterable[Source], modules: Iterable[nn.Module]) -> tuple[list[Source], list[Any]]:
    """(all code that it may run; functions that `functools.lru_cache` has wrapped, with what they keep)."""
    callees = _reached(_Callees(sources), modules)
    return callees.found(), [*callees.memos.values()]


def _reached(callees: _Callees, modules: Iterable[nn.Module]) -> _Callees:
    modules = list(modules)
    for kind in dict.fromkeys(kind for module in modules for kind in type(module).__mro__ if not is_torch(kind)):
        callees.offer(vars(kind).items())
    for module in modules:
        callees.offer(_kept(module))
    return callees


class _Callees:
    """Follows names from function to function; methods of a class that is named count as soon as code names them.

    Args:
        sources: The code that runs.
        is_wide: Follow what code may run without a call by name, too.
    """

    def __init__(self, sources: Iterable[Source], *, is_wide: bool = True) -> None:
        self._is_wide, self._methods = is_wide, _METHODS if is_wide else (FunctionType,)
        self._found = {id(source.code): source for source in sources}
        self._waiting = list(self._found.values())
        self._by_name: dict[str, list[Any]] = {}
        self._named = {"__call__"}
        self._kinds: set[type] = set()
        self._opened: dict[int, Any] = {}
        self.memos: dict[int, Any] = {}

    def offer(self, methods: Iterable[tuple[str, Any]]) -> None:
        """Values that code may name as attributes."""
        for name, value in methods:
            self._by_name.setdefault(name, []).append(value)
            if name in self._named or (self._is_wide and _is_implicit(name, value)):
                self._take(value)

    def found(self) -> list[Source]:
        """All that is reached."""
        while self._waiting:
            source = self._waiting.pop()
            for module in imported_by(source) if self._is_wide else ():
                self._take(module)
            for code in nested(source.code):
                texts = texts_as_names(code) if self._is_wide else ()
                for name in (*code.co_names, *code.co_freevars, *texts):
                    for table in (source.scope, source.closure):
                        if name in table:
                            self._take(table[name])
                    if name not in self._named:
                        self._named.add(name)
                        for value in self._by_name.get(name, ()):
                            self._take(value)
        return list(self._found.values())

    def _take(self, value: Any) -> None:
        """A function is followed; of a class or an object of one, the methods are offered."""
        value = value.fget if isinstance(value, property) else value
        value = value.func if isinstance(value, (functools.partial, functools.cached_property)) else value
        value = getattr(value, "__func__", value)  # of a class method, that of a memo too
        if isinstance(value, _LRU):
            if not is_library(value.__wrapped__):
                self.memos[id(value)] = value
            value = value.__wrapped__
        if isinstance(value, FunctionType):
            if not is_library(value) and id(value.__code__) not in self._found:
                self._waiting.append(Source.of_function(value))
                self._found[id(value.__code__)] = self._waiting[-1]
            return
        if isinstance(value, _ATOMS):
            return
        if isinstance(value, (dict, list, tuple, ModuleType)):
            if id(value) not in self._opened:
                self._opened[id(value)] = value
                self._open(value)
            return
        if isinstance(value, type) and issubclass(value, torch.autograd.Function):  # what `apply` runs
            self._open({name: vars(value).get(name) for name in _OF_FUNCTIONS})
        kinds: tuple[type, ...] = (value, type(value)) if isinstance(value, type) else (type(value),)
        for kind in kinds if self._is_wide else kinds[:1]:
            if kind not in self._kinds and not issubclass(kind, nn.Module):  # calls of modules are recorded themselves
                self._kinds.add(kind)
                for base in (base for base in inspect.getmro(kind) if not is_library(base)):
                    self.offer((name, part) for name, part in vars(base).items() if isinstance(part, self._methods))

    def _open(self, value: Any) -> None:
        """What a registry holds may be called; what a file of the caller's own defines counts if it is named."""
        if isinstance(value, ModuleType):
            if self._is_wide and not is_installed(value):
                self.offer([*vars(value).items()])
            return
        parts = cast("list[Any]", list(value.values()) if isinstance(value, dict) else list(value))
        for part in parts[:_MAX_REGISTERED]:
            if self._is_wide or isinstance(part, (FunctionType, _LRU)):
                self._take(part)


def _is_implicit(name: str, value: Any) -> bool:
    return name.startswith("__") and name.endswith("__") and name not in _MAKING and isinstance(value, _METHODS)


def names_read_by(function: Any) -> frozenset[str]:
    """The names that a function, or the forward of a module, and the functions that they call use."""
    code = inspect.getattr_static(type(function), "forward") if isinstance(function, nn.Module) else function
    callees = _Callees([])
    callees.offer([("__call__", code)])
    return frozenset(name for source in callees.found() for code in nested(source.code) for name in loaded(code))


def names_written_by(modules: Iterable[nn.Module]) -> frozenset[str]:
    """Attributes that the forward passes of these modules, and of their parts, may set."""
    parts = {id(part): part for module in modules for part in module.modules()}.values()
    sources = with_callees([source for part in parts for source in sources_of(part, has_train=False)], parts)
    return frozenset(name for source in sources for code in nested(source.code) for name in stored(code))


def is_torch(kind: Any) -> bool:
    """True for classes and functions of torch, and for `object`."""
    return kind is object or str(getattr(kind, "__module__", "")).split(".")[0] == "torch"


@functools.lru_cache(maxsize=4096)
def catches(code: CodeType) -> bool:
    """True if the code handles errors, so that a call that fails may steer it."""
    opcodes = [instruction.opname for instruction in dis.get_instructions(code)]
    if {"CHECK_EXC_MATCH", "JUMP_IF_NOT_EXC_MATCH"}.intersection(opcodes) or "suppress" in code.co_names:
        return True
    passed_on = opcodes.count("PUSH_EXC_INFO") + opcodes.count("WITH_EXCEPT_START")  # by `finally` and by `with`
    return opcodes.count("POP_EXCEPT") > passed_on  # `except:` without a type


def returns_nothing(function: Any) -> bool:
    """True if a function of Python's returns None on every path."""
    function = getattr(function, "func", function)  # of a partial
    if not isinstance(getattr(function, "__func__", function), FunctionType):
        function = vars(type(function)).get("__call__")
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if not isinstance(code, CodeType):
        return False
    instructions = list(dis.get_instructions(code))
    ends = [at for at, own in enumerate(instructions) if own.opname == "RETURN_VALUE"]
    before = [instructions[at - 1] for at in ends if not instructions[at].is_jump_target]
    is_none = all(own.opname == "LOAD_CONST" and own.argval is None for own in before)
    return (
        is_none
        and len(before) == len(ends)
        and all(own.argval is None for own in instructions if own.opname == "RETURN_CONST")
    )


@functools.lru_cache(maxsize=4096)
def stored(code: CodeType) -> frozenset[str]:
    """Names of attributes and globals that the code writes."""
    return frozenset(str(own.argval) for own in dis.get_instructions(code) if own.opname in _WRITES)


@functools.lru_cache(maxsize=4096)
def stored_elsewhere(code: CodeType) -> frozenset[str]:
    """Names that the code writes on anything but `self`, such as on a library's module."""
    instructions = [own for own in dis.get_instructions(code) if own.opname != "EXTENDED_ARG"]
    return frozenset(
        str(own.argval)
        for before, own in pairwise(instructions)
        if own.opname in _WRITES and (own.opname == "STORE_GLOBAL" or _last_name(before.argval) != "self")
    )


def _last_name(named: Any) -> Any:
    """The variable that an instruction loads last: newer versions load two at once."""
    return named[-1] if isinstance(named, tuple) else named


def texts_as_names(code: CodeType) -> Iterator[str]:
    """Texts, or their beginnings, by which the code may look values up: `getattr(self, f"scale_{i}")`, `eval("k")`."""
    is_code = not _AS_CODE.isdisjoint(code.co_names)
    if is_code or not _BY_TEXT.isdisjoint(code.co_names):
        for constant in code.co_consts:
            if isinstance(constant, str) and (is_code or constant.isidentifier()):
                yield from _IDENTIFIER.findall(constant)


def imported_by(source: Source) -> list[ModuleType]:
    """The modules of the caller's own that the code imports while it runs."""
    package = str(source.scope.get("__package__") or "")
    named = [name for code in nested(source.code) for name in _imports(code)]
    found = [sys.modules.get(path) for name in named for path in (name, f"{package}.{name}" if name else package)]
    return [module for module in found if module is not None and not is_installed(module)]


@functools.lru_cache(maxsize=4096)
def _imports(code: CodeType) -> tuple[str, ...]:
    return tuple(str(own.argval) for own in dis.get_instructions(code) if own.opname == "IMPORT_NAME")


def _kept(module: nn.Module) -> list[tuple[str, Any]]:
    """Functions and helper objects that a module keeps in plain attributes."""
    own = vars(module).items()
    return [(name, value) for name, value in own if not isinstance(value, (nn.Module, Tensor, str, int))]
