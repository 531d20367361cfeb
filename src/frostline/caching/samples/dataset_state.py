"""What a dataset keeps beside its items: generators of random numbers, and values that its code reads.

A walk begins at the dataset and follows attributes, containers, closures, default arguments, and globals by name.
"""

from __future__ import annotations

import ctypes
import functools
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import IOBase
from itertools import count, islice
from operator import length_hint
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from frostline.core.attributes import attributes_of
from frostline.core.code_names import Cells, entropy_in, is_installed, loaded, nested
from frostline.core.generators import GENERATORS, state_of

_ATOMS = (bool, int, float, complex, str, bytes, type(None), PurePath)
_LEAVES = (*_ATOMS, Tensor, np.ndarray)
_SHARED = (ctypes.c_int, ctypes.c_long, ctypes.c_double, ctypes.c_float, ctypes.c_bool)  # of worker processes
_LRU = type(functools.lru_cache(len))
_BOUND = (MethodType, BuiltinFunctionType, _LRU)
_IMPLICIT = frozenset(("__getitem__", "__getitems__", "__call__", "__iter__", "__len__", "forward", "target"))
_MAX_VISITED = 4000  # values of one walk
_MAX_PARTS = 256  # parts of a container, and numbers of an array, that are looked at: the first, the last, and between
_MAX_DEPTH = 4  # of containers in containers


@dataclass(frozen=True)
class Entry:
    """A value that code of the dataset reads: an entry of a table, by its name for people.

    Attributes:
        name: The name.
        table: The attributes, variables or globals that hold it.
        key: Where.
        is_own: True for a value of the caller's own classes and functions, False for those of installed packages.
    """

    name: str
    table: Mapping[Any, Any]
    key: Any
    is_own: bool

    def mark(self, *, has_identity: bool) -> Any:
        """The value as something that can be compared later."""
        try:
            return mark_of(self.table[self.key], has_identity=has_identity)
        except KeyError:
            return "nothing"


class DatasetState:
    """The values that the code of a dataset reads, to be compared later.

    Args:
        dataset: Any dataset; wrappers such as `Subset` and transforms are followed.
        has_identity: Other objects are compared by identity, tensors by their version too: what is replaced, or written
            in place, has changed. Else by content alone: what reading the same item again leaves as it was has not.
    """

    def __init__(self, dataset: Any, *, has_identity: bool) -> None:
        self._has_identity = has_identity
        self._entries = _explored(dataset).entries
        self._before = self._marks(range(len(self._entries)))

    def moved(self, *, only_own: bool = False) -> list[str]:
        """The names of values that are other ones now.

        Args:
            only_own: Leave out values of installed packages.
        """
        return [self._entries[at].name for at in self._moved() if self._entries[at].is_own or not only_own]

    def leave_out_moved(self) -> None:
        """Forget values that have moved until now: reading moves them, as it fills a cache of items or opens a file."""
        for at in self._moved():
            del self._before[at]

    def _moved(self) -> list[int]:
        now = self._marks(self._before)
        return [at for at, mark in self._before.items() if now[at] != mark]

    def _marks(self, chosen: Any) -> dict[int, Any]:
        return {at: self._entries[at].mark(has_identity=self._has_identity) for at in chosen}


class HeldGenerators:
    """The generators that a dataset holds, or can reach, with their states.

    Attributes:
        entropy: What its code asks for random numbers that have no state, such as the operating system; named.
    """

    def __init__(self, dataset: Any) -> None:
        walk = _explored(dataset)
        self._generators, self.entropy = walk.generators, tuple(dict.fromkeys(walk.entropy))
        self.note()

    @property
    def generators(self) -> list[Any]:
        """The generators, in the order in which code and attributes lead to them."""
        return [generator for _, generator in self._generators]

    def note(self) -> None:
        """Remember the states."""
        self._states = [state_of(generator) for _, generator in self._generators]

    def drawn(self) -> str | None:
        """The name of a generator that was drawn from since `note`; None if there is none."""
        pairs = zip(self._generators, self._states, strict=True)
        return next((name for (name, generator), state in pairs if state_of(generator) != state), None)


def mark_of(value: Any, depth: int = 0, *, has_identity: bool) -> Any:
    """A value as something that can be compared later; of large ones, some parts stand for all."""
    if isinstance(value, _ATOMS):
        return (type(value), repr(value) if isinstance(value, (float, complex)) else value)
    if isinstance(value, Tensor):
        return _mark_of_tensor(value, has_identity=has_identity)
    if isinstance(value, np.ndarray):
        flat = value.reshape(-1)[:: max(1, value.size // _MAX_PARTS)] if value.flags.c_contiguous else value[:1]
        return (value.shape, flat.tobytes() if has_identity or value.dtype != object else 0)
    if isinstance(value, _SHARED):
        return value.value
    if isinstance(value, GeneratorType):
        return _mark_of_generator(value, depth, has_identity=has_identity)
    if isinstance(value, (dict, list, tuple, deque)) and depth < _MAX_DEPTH:
        parts = [mark_of(part, depth + 1, has_identity=has_identity) for part in _parts(value)]
        return (len(cast("Any", value)), parts)
    if isinstance(value, (set, frozenset)):
        own = cast("set[Any]", value)
        return (len(own), frozenset(map(repr, own)) if len(own) <= _MAX_PARTS else 0)
    if isinstance(value, Iterator) and not isinstance(value, IOBase):
        return (repr(value) if isinstance(value, count) else 0, length_hint(value, -1))
    return (type(value), id(value) if has_identity else 0)


def _mark_of_generator(value: GeneratorType[Any, Any, Any], depth: int, *, has_identity: bool) -> Any:
    """Where the function stands that yields the values, and its variables."""
    frame = value.gi_frame
    return (frame.f_lasti, mark_of(dict(frame.f_locals), depth + 1, has_identity=has_identity)) if frame else "ended"


def _mark_of_tensor(value: Tensor, *, has_identity: bool) -> Any:
    version = value._version if has_identity and not value.is_inference() else 0
    is_plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_nested
    numbers = b""
    if is_plain and value.is_contiguous():
        some = value.detach().view(-1)[:: max(1, value.numel() // _MAX_PARTS)]
        numbers = some.contiguous().view(torch.uint8).numpy().tobytes()
    return (tuple(value.shape) if is_plain else 0, version, numbers)


def _is_of_atoms(value: Any, depth: int = 0) -> bool:
    """True for a tuple of numbers and texts, and of such tuples: a table of a thousand of them is looked at quickly."""
    if isinstance(value, _ATOMS):
        return True
    parts = cast("tuple[Any, ...]", value) if type(value) is tuple else ()
    is_small = type(value) is tuple and len(parts) <= _MAX_PARTS and depth < _MAX_DEPTH
    return is_small and all(_is_of_atoms(part, depth + 1) for part in parts)


def _parts(value: Any) -> Sequence[Any]:
    """Some parts of a container: those of a list as it keeps them, whatever its `__getitem__` gives."""
    if isinstance(value, dict):
        return list(islice(dict.items(cast("dict[Any, Any]", value)), _MAX_PARTS))
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        size = kind.__len__(cast("Any", value))
        chosen = range(size) if size <= _MAX_PARTS else np.linspace(0, size - 1, _MAX_PARTS).astype(int).tolist()
        return [kind.__getitem__(cast("Any", value), at) for at in chosen]
    return list(islice(value, _MAX_PARTS))


class _Walk:
    """One walk. `names` are those that code was known to read before it; `found_names` those after it."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names, self.found_names = names, set(names)
        self.generators = list[tuple[str, Any]]()
        self.entries = list[Entry]()
        self.entropy = list[str]()
        self._waiting: deque[tuple[str, Any, bool]] = deque()
        self._seen: dict[int, bool] = {}  # by identity: whether it was reached by names that code reads
        self._alive = list[Any]()  # so that no other object takes the identity of one that was seen

    def run(self, dataset: Any) -> None:
        """Follow everything from the dataset."""
        self._table("", {"dataset": dataset}, ["dataset"], is_read=True, is_own=True)
        while self._waiting and len(self._alive) < _MAX_VISITED:
            self._visit(*self._waiting.popleft())

    def _table(self, prefix: str, table: Mapping[Any, Any], keys: Sequence[Any], *, is_read: bool, is_own: bool,
               suffix: str = "") -> None:  # fmt: skip
        """Values by name: those that code reads are entries."""
        for key in keys:
            name = f"{prefix}{key}{suffix}"
            if is_read and not isinstance(table[key], (*GENERATORS, ModuleType, type)):
                self.entries.append(Entry(name, table, key, is_own))
            self._offer(name, table[key], is_read)

    def _offer(self, name: str, value: Any, is_read: bool) -> None:
        known = self._seen.get(id(value))
        if isinstance(value, _LEAVES) or known or (known is not None and not is_read) or _is_of_atoms(value):
            return
        self._seen[id(value)] = is_read
        self._alive.append(value)
        self._waiting.append((name, value, is_read))

    def _visit(self, name: str, value: Any, is_read: bool) -> None:
        if isinstance(value, random.SystemRandom):
            self.entropy.append(f"{name}, a SystemRandom")
        elif isinstance(value, GENERATORS):
            if all(value is not known for _, known in self.generators):
                self.generators.append((name, value))
        elif isinstance(value, FunctionType):
            self._function(value, is_read)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._offer(name, part, is_read)
        elif isinstance(value, _BOUND) or type(value).__name__ == "cython_function_or_method":
            for key in ("__self__", "__func__", "__wrapped__"):
                if not isinstance(part := getattr(value, key, None), ModuleType):
                    self._offer(name, part, is_read)
        elif isinstance(value, GeneratorType):
            for part in (value.gi_frame.f_locals if value.gi_frame else {}).values():
                self._offer(name, part, is_read)
        elif isinstance(value, (ModuleType, type)):
            self._class_or_module(name, value, is_read)
        else:
            if isinstance(value, (dict, list, tuple, deque, set, frozenset)):
                for at, part in enumerate(_parts(value)):
                    self._offer(f"{name}[{at}]", part, is_read)
            if not isinstance(value, _SHARED):
                self._object(name, value, is_read)

    def _function(self, function: FunctionType, is_read: bool) -> None:
        is_own, cells, where = not is_installed(function), Cells(function), f" of {function.__name__}"
        codes = list(nested(function.__code__)) if is_own else []
        read = {name for code in codes for name in loaded(code)}
        used = [name for name in cells if name in read or not is_own]
        self._table("", cells, used, is_read=is_read, is_own=is_own, suffix=where)
        for part in (*cells.values(), *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._offer(f"a variable{where}", part, False)
        if is_own:
            self.found_names |= read
            asked = [source for code in codes if (source := entropy_in(code))]
            self.entropy += [f"{source} in {function.__qualname__}" for source in asked]
            scope = function.__globals__
            named = [name for name in sorted(read) if name in scope and not name.startswith("__")]
            self._table("the global ", scope, named, is_read=is_read, is_own=True)

    def _class_or_module(self, name: str, value: Any, is_read: bool) -> None:
        """Methods and attributes that code names."""
        if is_installed(value):
            return
        table = vars(value)
        plain = list[str]()
        for key in [key for key in table if key in self.names or key in _IMPLICIT]:
            own = table[key]
            own = getattr(own, "fget", None) or getattr(own, "func", None) or getattr(own, "__func__", own)
            if hasattr(own, "__get__"):
                self._offer(f"{name}.{key}", own, is_read)
            else:
                plain.append(key)
        self._table(f"{name}.", table, plain, is_read=is_read, is_own=True)

    def _object(self, name: str, value: Any, is_read: bool) -> None:
        is_own, table = not is_installed(type(value)), attributes_of(value)
        keys = [key for key in table if not key.startswith("__")]
        named = [key for key in keys if not is_own or key in self.names]
        self._table(f"{name}.", table, named, is_read=is_read, is_own=is_own)
        for key in keys:  # what no code names may hold a generator all the same
            self._offer(f"{name}.{key}", table[key], False)
        for kind in type(value).__mro__:
            self._class_or_module(name, kind, is_read)


def _explored(dataset: Any) -> _Walk:
    """The last of a few walks: names that one finds decide what the next one follows."""
    walk = _Walk(frozenset())
    walk.run(dataset)
    while len(walk.found_names) > len(walk.names):
        walk = _Walk(frozenset(walk.found_names))
        walk.run(dataset)
    return walk
