"""All code of the caller's own that a model may run. What is followed in vain costs a proof; what is missed, trust.

From the modules and the code that ran, every value is followed: hooks, objects in containers, default arguments,
methods of all kinds, and modules of Python, those that are imported while the code runs included.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from frostline.core.attributes import attributes_of
from frostline.core.code_names import is_installed, nested
from frostline.splitting.python_state.places import NUMBERS
from frostline.splitting.python_state.sources import Source

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

_LRU = type(functools.lru_cache(len))
_ATOMS = (*NUMBERS, type(None), Tensor, np.ndarray, CodeType)
_HOLDERS = (list, tuple, set, frozenset, deque)
_MAX_VISITED = 20_000


def hooks_of(module: nn.Module) -> list[tuple[str, Any]]:
    """The hooks of a module and of its own parameters, with the names of their tables."""
    found = [(kind, hook) for kind in HOOKS for hook in getattr(module, kind).values()]
    for name, parameter in module.named_parameters(recurse=False):
        found += [(name, hook) for hook in (parameter._backward_hooks or {}).values()]
    return found


@dataclass
class Reached:
    """What was found.

    Attributes:
        sources: The code.
        imported: Modules of the caller's own that the code may import while it runs, by name.
    """

    sources: list[Source]
    imported: dict[str, ModuleType]


def reach(sources: Iterable[Source], modules: Iterable[nn.Module]) -> Reached | None:
    """The code, and all that it may run.

    Args:
        sources: The code that ran.
        modules: The modules of the model.

    Returns:
        None if it is more than can be followed.
    """
    walk = _Walk()
    for source in sources:
        walk.source(source)
    for module in modules:
        walk.offer(module)
    return walk.run()


class _Walk:
    """One walk. Methods of classes and functions of modules count as soon as some code names them."""

    def __init__(self) -> None:
        self._found: dict[int, Source] = {}
        self._named = {"forward", "train"}
        self._by_name: dict[str, list[Any]] = {}
        self._seen: set[int] = set()
        self._alive: list[Any] = []  # so that no other object takes the identity of one that was seen
        self._waiting: deque[Any] = deque()
        self._imported: dict[str, ModuleType] = {}

    def run(self) -> Reached | None:
        """Follow everything."""
        while self._waiting:
            if len(self._alive) > _MAX_VISITED:
                return None
            self._visit(self._waiting.popleft())
        return Reached(list(self._found.values()), self._imported)

    def offer(self, value: Any) -> None:
        """A value that code may use."""
        if not isinstance(value, _ATOMS) and id(value) not in self._seen:
            self._seen.add(id(value))
            self._alive.append(value)
            self._waiting.append(value)

    def source(self, source: Source) -> None:
        """Code that runs: what it names, and what it imports."""
        for value in (*source.closure.values(), *source.defaults.values()):
            self.offer(value)
        if id(source.code) in self._found:
            return
        self._found[id(source.code)] = source
        for name in sorted({name for code in nested(source.code) for name in _names_in(code)}):  # in each process alike
            self.offer(source.scope.get(name))
            for module in _imported(name, source.scope):
                self._imported[module.__name__] = module
                self.offer(module)
            if name not in self._named:
                self._named.add(name)
                for value in self._by_name.pop(name, ()):
                    self.offer(value)

    def _offer_by_name(self, table: Mapping[str, Any]) -> None:
        for name, value in list(table.items()):
            if name in self._named or name.startswith("__"):
                self.offer(value)
            else:
                self._by_name.setdefault(name, []).append(value)

    def _visit(self, value: Any) -> None:
        if isinstance(value, FunctionType):
            self.offer(getattr(value, "__wrapped__", None))
            if not is_installed(value):
                self.source(Source.of_function(value))
            self._parts(vars(value).values())
        elif isinstance(value, type):
            for kind in value.__mro__:
                if not is_installed(kind):
                    self._offer_by_name(vars(kind))
        elif isinstance(value, ModuleType):
            if not is_installed(value):
                own = {name: held for name, held in vars(value).items() if not name.startswith("__")}
                self._offer_by_name(own)
        elif isinstance(value, nn.Module):
            self._parts((type(value), *vars(value).values(), *(hook for _, hook in hooks_of(value))))
        elif isinstance(value, Mapping):
            self._parts((type(value), *cast("Mapping[Any, Any]", value).values()))
        elif isinstance(value, _HOLDERS):
            self._parts((type(value), *cast("Iterable[Any]", value)))
        else:
            self._parts((*_inside(value), type(value), *attributes_of(value).values()))

    def _parts(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.offer(value)


def _inside(value: Any) -> tuple[Any, ...]:
    """What methods, properties and partial functions hold."""
    if isinstance(value, functools.partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, MethodType):
        return (value.__func__, value.__self__)
    if isinstance(value, property):
        return (value.fget, value.fset)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    return (value.__wrapped__,) if isinstance(value, _LRU) else ()


def _names_in(code: CodeType) -> Iterator[str]:
    """Names, and texts by which attributes may be looked up."""
    yield from code.co_names
    yield from code.co_freevars
    yield from (text for text in code.co_consts if isinstance(text, str) and text.isidentifier())


def _imported(name: str, scope: Mapping[str, Any]) -> Iterator[ModuleType]:
    """Modules of the caller's own that code of this scope may import under a name, its own packages included."""
    package = str(scope.get("__package__") or "")
    while True:
        module = sys.modules.get(f"{package}.{name}" if package else name)
        if module is not None and not is_installed(module):
            yield module
        if not package:
            return
        package = package.rpartition(".")[0]
