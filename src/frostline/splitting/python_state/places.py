"""Places where a model keeps Python values: attributes of modules and classes, containers, objects, globals, closures.

A walk starts from code and from modules, and collects the places that the code names. The value of a place is compared
with a later one by its fingerprint: numbers, texts, tensors, containers, generators of random numbers.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import weakref
from array import array
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core.attributes import attributes_of
from frostline.core.code_names import is_library, loaded, loaded_arguments, nested
from frostline.core.digests import code_digest, tensor_digest
from frostline.core.generators import GENERATORS, state_of
from frostline.splitting.python_state.scripts import SCRIPTED, UnreadableScript, script_text
from frostline.splitting.python_state.sources import (
    Source,
    imported_by,
    reached_from,
    stored,
    stored_elsewhere,
    texts_as_names,
)
from frostline.splitting.python_state.value_tables import ClassTable, ContextTable, HeldEntries, ShownTable, SizeTable

NUMBERS = (bool, int, float, complex, str, bytes, np.generic, range,
           torch.dtype, torch.device, torch.layout, torch.memory_format)  # fmt: skip
_MAX_DEPTH = 4  # containers inside of containers, of one value
_MAX_OBJECTS = 10  # objects and containers inside of each other, of one walk
# A function that such a context manager decorates makes a generator of its own in every call.
_ONE_CALL = (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)
_LOGS = (logging.Handler, logging.Logger)
_ENVIRONMENT = frozenset(("environ", "environb", "getenv"))
_HOLDERS = (set, frozenset, deque, bytearray, array)


def has_state(value: Any) -> bool:
    """True for values that are compared as one, beside numbers and tensors: sets, queues, iterators, generators."""
    return isinstance(value, (*GENERATORS, *_HOLDERS)) or _is_iterator(value)


def fingerprint(value: Any, depth: int = 0) -> Any:
    """A value as something that can be compared later; an iterator is never the same: only reading shows its state."""
    if isinstance(value, Tensor):
        return tensor_digest(value)
    if isinstance(value, np.ndarray):
        held = value.tobytes() if not value.dtype.hasobject else fingerprint(value.ravel().tolist(), depth)
        return (value.dtype.str, value.shape, held)
    if value is None or isinstance(value, NUMBERS):
        return repr(value)
    if isinstance(value, GENERATORS):
        return state_of(value)
    if _is_iterator(value):
        return object()
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return tuple((str(key), fingerprint(part, depth + 1)) for key, part in cast("Mapping[Any, Any]", value).items())
    if depth < _MAX_DEPTH and isinstance(value, (set, frozenset)):
        return ("set", *sorted(map(repr, cast("Iterable[Any]", value))))  # a set has an order in each process
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple, *_HOLDERS)):
        return tuple(fingerprint(part, depth + 1) for part in cast("Iterable[Any]", value))
    if isinstance(value, SCRIPTED):
        with contextlib.suppress(UnreadableScript):
            return script_text(value)
    return type(value).__qualname__


def mark_of(value: Any) -> Any:
    """A mark that changes when the value is written in place; None where it cannot be, or where nothing shows it."""
    if isinstance(value, Tensor):
        return value._version
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return fingerprint(value) if isinstance(value, (*GENERATORS, *_HOLDERS)) else None


def _is_iterator(value: Any) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, Tensor)


# Attributes of every module that are torch's own; `training` is chosen by the mode of the head.
_TORCH_OWN = frozenset(vars(nn.Module()))
_MAX_PLACES = 2000  # of one walk: a table of a million numbers is not a configuration


class Place:
    """Where one value is kept: an entry of a table, with a name for messages."""

    def __init__(self, name: str, table: Mapping[Any, Any] | Sequence[Any], key: Any) -> None:
        self.name, self._table, self._key = name, table, key
        self.value = self.now()
        self._mark = mark_of(self.value)

    def now(self) -> Any:
        """What is kept there now; a text where nothing is."""
        try:
            return self._table[self._key]
        except (KeyError, IndexError):
            return "nothing"

    def has_changed(self) -> bool:
        """True if the value is another one, or was written in place."""
        now = self.now()
        if now is self.value and self._mark is None:
            return False
        if isinstance(now, NUMBERS) and isinstance(self.value, NUMBERS):
            return now != self.value and now == now
        return now is not self.value or mark_of(now) != self._mark

    def put_back(self) -> None:
        """Put the value into its place again, where another one stands there now."""
        table: Any = self._table
        if self.now() is not self.value and hasattr(type(table), "__setitem__"):
            table[self._key] = self.value

    def take_out(self) -> None:
        """Leave nothing in the place."""
        table: Any = self._table
        if hasattr(type(table), "__delitem__"):
            with contextlib.suppress(KeyError, IndexError):
                del table[self._key]


class Walk:
    """Collects places.

    Args:
        sources: The code that ran.
        modules: The modules whose attributes and methods are followed.
        is_complete: Take those places too that forward itself writes.
        reads_all: Take every attribute of the modules, whether the code names it or not.
        left: Names of places that are not followed.
        follows_modules: Follow modules that stand in containers, globals and closures: what the code names of them.
        known: Identities of objects that are not followed.

    Attributes:
        places: What was found.
        memos: Functions with what `functools.lru_cache` keeps for them.
        containers: Lists, tables and the like that were found.
        library: Names of places that hold something of a library, with its name there.
        unnamed: Names of places whose content cannot be read.
    """

    def __init__(
        self, sources: list[Source], modules: Iterable[nn.Module], *, is_complete: bool = False,
        reads_all: bool = False, left: Container[str] = (), follows_modules: bool = False,
        known: Iterable[int] = (),
    ) -> None:  # fmt: skip
        self.places = list[Place]()
        self.sources, self.memos = reached_from(sources, modules)
        self.library, self.unnamed, self.containers = list[str](), list[str](), list[Any]()
        self._reads_all, self._left, self._follows_modules = reads_all, left, follows_modules
        codes = [part for source in self.sources for part in nested(source.code)]
        self._read = {name for code in codes for name in loaded(code)}
        self._named = tuple({text for code in codes for text in texts_as_names(code)})
        self._set = {name for code in codes for name in stored(code)}
        self._set_elsewhere = {name for code in codes for name in stored_elsewhere(code)}
        self._is_complete, self._written = is_complete, set[str]() if is_complete else self._set
        self._seen = set(known)

    def module(self, name: str, module: nn.Module) -> None:
        """Attributes of the module and of its classes."""
        prefix = f"{name}." if name else ""
        own = vars(module)
        self._table(prefix, own, 0, _TORCH_OWN)
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                self._table(f"{prefix}{leaf}.", vars(tensor), 1)
        self._class_of(module, 0)

    def scopes(self) -> None:
        """Globals and closures that the code names, and default arguments."""
        seen: set[tuple[int, str]] = set()
        for source in self.sources:
            codes = [*nested(source.code)]
            read = {name for code in codes for names in (loaded(code), texts_as_names(code)) for name in names}
            for name in sorted(name for name in read if name in source.scope and not name.startswith("__")):
                if (id(source.scope), name) not in seen:  # two functions of a file share its globals
                    seen.add((id(source.scope), name))
                    self._value(f"the global {name}", source.scope, name, 0)
            for name in source.closure:
                if name in self._read:
                    self._value(f"{name} of {source.code.co_name}", source.closure, name, 0)
            for name in sorted(source.defaults.keys() & loaded_arguments(source.code)):  # a set has an order of its own
                if not isinstance(source.defaults[name], NUMBERS):
                    self._value(f"the default {name} of {source.code.co_name}", source.defaults, name, 0)
            for module in imported_by(source):
                self._value(f"the module {module.__name__}", {0: module}, 0, 0)
            for text in _variables(source):
                self._value(f"os.environ[{text!r}]", os.environ, text, 0)

    def default_numbers(self) -> list[str]:
        """Numbers and texts that stand as default arguments: no call moves them, and code alone does not show them."""
        return sorted(
            f"the default {name} of {source.code.co_name} {fingerprint(value)}"
            for source in self.sources
            for name, value in source.defaults.items()
            if value is None or isinstance(value, NUMBERS)
        )

    def _is_read(self, key: Any) -> bool:
        if key in self._written or not isinstance(key, str) or key.startswith("__"):
            return False
        return self._reads_all or key in self._read or key.startswith(self._named)

    def _table(self, prefix: str, table: Mapping[str, Any], depth: int, hidden: frozenset[str] = frozenset()) -> None:
        for key in list(table):
            if key not in hidden and self._is_read(key):
                self._value(f"{prefix}{key}", table, key, depth)

    def _value(self, name: str, table: Any, key: Any, depth: int) -> None:
        if name in self._left:
            return
        if len(self.places) >= _MAX_PLACES or depth > _MAX_OBJECTS:
            self.unnamed.append(name)
            return
        value = table[key]
        if value is None or isinstance(value, (*NUMBERS, Tensor, np.ndarray, *SCRIPTED)) or has_state(value):
            if not isinstance(value, nn.Parameter) or self._follows_modules:
                self.places.append(Place(name, table, key))
            if isinstance(value, Tensor):
                self._table(f"{name}.", vars(value), depth + 1)
        elif id(value) in self._seen:
            return
        elif isinstance(value, nn.Module):
            if self._follows_modules:
                self._seen.add(id(value))
                self._hidden_module(name, value, depth)
                for part in (value._parameters, value._buffers, value._modules):
                    self._table(f"{name}.", part, depth + 1)
        elif isinstance(value, Mapping):
            self._container(name, value, depth, size=f"keys of {name}")
        elif isinstance(value, (list, tuple)):
            self._container(name, value, depth, size=f"len({name})")
        elif not isinstance(value, _LOGS):  # what was logged moves with every call, and steers no tensor
            self._seen.add(id(value))
            self._object(name, value, depth)

    def _hidden_module(self, name: str, module: nn.Module, depth: int) -> None:
        """A module outside of the tree: what it computes, and its settings, which no code of the model names."""
        kind = type(module)
        self.library.append(f"{name} is a {kind.__module__}.{kind.__qualname__}")
        forward = inspect.getattr_static(kind, "forward")
        if isinstance(forward, FunctionType) and not is_library(kind):
            self.library.append(f"{name} {code_digest(forward.__code__)}")
        elif is_library(kind):
            for key in (key for key in getattr(kind, "__constants__", ()) if key in vars(module)):
                self._value(f"{name}.{key}", vars(module), key, depth + 1)
        self.module(name, module)

    def _container(self, name: str, container: Any, depth: int, *, size: str) -> None:
        self._seen.add(id(container))
        self.containers.append(container)
        if size not in self._left:
            self.places.append(Place(size, SizeTable(container), 0))
        table = HeldEntries(container) if isinstance(container, dict) else container
        try:
            for key in [*table] if isinstance(table, Mapping) else range(len(table)):
                self._value(f"{name}[{key!r}]", table, key, depth + 1)
        except Exception:  # a mapping of its own kind may compute what it is asked for, and fail
            if isinstance(container, dict):
                raise
            self.unnamed.append(name)

    def _object(self, name: str, value: Any, depth: int) -> None:
        """What a module, a class, a function or another object keeps."""
        if isinstance(value, (ModuleType, type, FunctionType)):
            own = ClassTable(value) if isinstance(value, type) else vars(value)
            if is_library(value):  # it keeps nothing but what the code itself has put there
                self.library.append(f"{name} = {value.__name__}")
                written = self._set_elsewhere if isinstance(value, ModuleType) else self._set
                for key in sorted(key for key in written if key in own and self._is_read(key)):
                    self._value(f"{name}.{key}", own, key, depth + 1)
            else:
                self._table(f"{name}.", own, depth + 1)
            if isinstance(value, type):
                self._class_of(value, depth + 1)  # a metaclass
        elif isinstance(value, functools.partial):
            kept: dict[str, Any] = {"args": value.args, "keywords": value.keywords, "func": value.func}
            for key in kept:
                self._value(f"{name}.{key}", kept, key, depth + 1)
        elif isinstance(value, MethodType):
            self._value(f"{name}.__self__", {0: value.__self__}, 0, depth + 1)
        elif isinstance(value, weakref.ref):
            self._value(f"{name}()", {0: value()}, 0, depth + 1)
        elif isinstance(value, ContextVar):
            self._table(f"{name}.", ContextTable(value), depth + 1)
        else:
            own = attributes_of(value)
            if isinstance(value, _ONE_CALL):
                own = {key: part for key, part in own.items() if key != "gen"}
            if not own and callable(value) and hasattr(value, "__name__"):  # built in
                self.library.append(f"{name} = {getattr(value, '__module__', None)}.{value.__name__}")
            elif not own and is_library(type(value)):
                self.unnamed.append(name)
            if self._is_complete and is_library(type(value)):  # no code of the model names what a queue keeps
                for key in own.keys() - (self._set - self._read):
                    self._value(f"{name}.{key}", own, key, depth + 1)
            self._table(f"{name}.", own, depth + 1)
            self._class_of(value, depth + 1)

    def _class_of(self, value: Any, depth: int) -> None:
        """What the classes of an object keep, as the object shows it: an attribute of its own may hide it later."""
        for kind in type(value).__mro__:
            if not is_library(kind):
                shown = ShownTable(value, kind)
                self._table(f"{kind.__name__}.", shown, depth)
                for key, part in [*vars(kind).items()]:  # descriptors of the caller's own
                    if hasattr(part, "__get__") and not is_library(type(part)) and self._is_read(key):
                        self._value(f"{kind.__name__}.{key}", vars(kind), key, depth)


def _variables(source: Source) -> set[str]:
    """Variables of the environment that the code may read: those of which it holds the name."""
    codes = [code for code in nested(source.code) if _ENVIRONMENT.intersection(code.co_names)]
    return {text for code in codes for text in code.co_consts if isinstance(text, str) and text in os.environ}


def contents(places: Iterable[Place]) -> dict[str, Any]:
    """What is kept at the places now, as something that can be compared later."""
    return {place.name: fingerprint(place.value) for place in places}
