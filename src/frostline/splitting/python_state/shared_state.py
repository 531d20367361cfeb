"""Which modules exchange Python values with code outside of them, beside arguments and results.

Such a module is neither closed (a frozen one whose inner values steer only itself) nor called whole by the head: what
it leaves in an attribute, a table, an object or a class, or finds there, would be that of another batch.
"""

from __future__ import annotations

import dis
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor, nn

from frostline.core.attributes import attributes_of
from frostline.core.code_names import is_library, nested
from frostline.splitting.python_state.sources import sources_of, texts_as_names, with_callees

if TYPE_CHECKING:
    from frostline.splitting.python_state.sources import Source

_CONTAINERS = (dict, list, set, deque)
_CHANGING = frozenset(
    ("append", "extend", "insert", "add", "update", "appendleft", "pop", "popitem", "clear", "setdefault", "remove")
)
_LOCALS = ("LOAD_FAST", "LOAD_DEREF")
_LOADS = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME")


@dataclass(frozen=True)
class _Usage:
    """What code does with names.

    Attributes:
        loaded: Attributes that it reads of its own object, and of others.
        foreign: Attributes that it reads of other objects than its first argument.
        stored: Attributes and globals that it writes.
        foreign_stored: Attributes that it writes on other objects than its first argument.
        changed: Names on lines that write an entry of a container, or call a method that changes one.
        stored_on: Attributes that it writes, each with a name of the object that gets it, if it has one.
        loaded_on: Attributes and methods that it reads, in the same way.
    """

    loaded: set[str] = field(default_factory=set[str])
    foreign: set[str] = field(default_factory=set[str])
    stored: set[str] = field(default_factory=set[str])
    foreign_stored: set[str] = field(default_factory=set[str])
    changed: set[str] = field(default_factory=set[str])
    stored_on: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    loaded_on: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def add(self, other: _Usage) -> None:
        """Take the names of other code."""
        for name in ("loaded", "foreign", "stored", "foreign_stored", "changed", "stored_on", "loaded_on"):
            getattr(self, name).update(getattr(other, name))


@dataclass
class _Reach:
    """The code of one module, and the mutable objects that it can reach, by identity, with their names."""

    codes: frozenset[CodeType]
    usage: _Usage
    objects: dict[int, tuple[Any, set[str]]]


class SharedState:
    """What the modules of one model share.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._reaches: dict[int, _Reach] = {}
        self._known: dict[tuple[int, bool], bool] = {}

    def has(self, module: nn.Module, *, beside_contexts: bool = False) -> bool:
        """True if the module, or a part of it, exchanges Python values with code outside of it.

        Args:
            module: A part of the model.
            beside_contexts: Values of context variables do not count: whether they are passed, `is_at_rest` shows.
        """
        key = (id(module), beside_contexts)
        if key not in self._known:
            self._known[key] = self._exchanges(module, counts_contexts=not beside_contexts)
        return self._known[key]

    # A context variable is set for the time of a call: around the layers whose outputs are collected, say. Where it has
    # the value of no call at all when a module begins and when it ends, nothing has passed through it.
    def is_at_rest(self) -> bool:
        """True if all context variables that the model's code reaches have their values from outside of its calls."""
        return all(_context_values(own) == values for own, values in self._resting)

    @cached_property
    def _resting(self) -> list[tuple[Any, list[Any]]]:
        reaches = [reach for same in self._by_codes.values() for reach in same]
        found = {key: own for reach in reaches for key, (own, _) in reach.objects.items()}
        return [(own, values) for own in found.values() if (values := _context_values(own))]

    def note_rest(self) -> None:
        """Remember the values of context variables: no call of the model runs now."""
        _ = self._resting

    @cached_property
    def _by_codes(self) -> dict[frozenset[CodeType], list[_Reach]]:
        """The parts of the model by their code: models of a thousand parts have a dozen classes."""
        found: dict[frozenset[CodeType], list[_Reach]] = {}
        for part in self._model.modules():
            reach = self._reach(part)
            found.setdefault(reach.codes, []).append(reach)
        return found

    @cached_property
    def _holders(self) -> Counter[int]:
        """How many parts reach an object, by identity."""
        return Counter(key for own in self._by_codes.values() for reach in own for key in reach.objects)

    def _exchanges(self, module: nn.Module, *, counts_contexts: bool) -> bool:
        parts = [self._reach(part) for part in module.modules()]
        counts = Counter(reach.codes for reach in parts)
        own_codes = {code for codes in counts for code in codes}
        inside, outside, others = _Usage(), _Usage(), _Usage()
        for codes, reaches in self._by_codes.items():
            if codes in counts:
                inside.add(reaches[0].usage)
            if counts[codes] < len(reaches):
                outside.add(reaches[0].usage)
                if not codes <= own_codes:  # else it reads its own attributes under these names
                    others.add(reaches[0].usage)
        if inside.stored & others.foreign or inside.loaded & others.foreign_stored:
            return True
        tables = (vars(part) for part in module.modules())
        held = {name for table in tables for name, value in table.items() if isinstance(value, _CONTAINERS)}
        if held & others.foreign & (inside.changed | others.changed):
            return True
        reached = Counter(key for reach in parts for key in reach.objects)
        objects = {key: own for reach in parts for key, own in reach.objects.items()}
        return any(
            _passes(*objects[key], inside, outside) or _passes(*objects[key], outside, inside)
            for key, count in reached.items()
            if count < self._holders[key] and (counts_contexts or not _context_values(objects[key][0]))
        )

    def _reach(self, module: nn.Module) -> _Reach:
        if id(module) not in self._reaches:
            sources = with_callees(sources_of(module, has_train=False), [module])
            codes = frozenset(code for source in sources for code in nested(source.code))
            usage = _Usage()
            for code in codes:
                usage.add(_usage(code))
            self._reaches[id(module)] = _Reach(codes, usage, dict(_objects(module, sources)))
        return self._reaches[id(module)]


def _context_values(value: Any) -> list[Any]:
    """Identities of the values of the context variables that an object holds, and of what it holds beside them."""
    held = attributes_of(value)
    if not any(isinstance(own, ContextVar) for own in held.values()):
        return []
    return [id(own.get(None)) if isinstance(own, ContextVar) else id(own) for own in held.values()]


def _passes(value: Any, names: set[str], writer: _Usage, reader: _Usage) -> bool:
    """True if the first code writes into the object what the second reads there."""
    if isinstance(value, _CONTAINERS):
        return bool(names & writer.changed and names & reader.loaded)
    written = {attribute for name, attribute in writer.stored_on if name in names}
    written = (written & set(attributes_of(value))) | _of_methods(value, names, writer, "stored")
    return bool(written & (reader.loaded | _of_methods(value, names, reader, "loaded")))


def _of_methods(value: Any, names: set[str], usage: _Usage, what: str) -> set[str]:
    """What the methods of the object do that this code calls; those of a class do it to objects of their own."""
    if isinstance(value, type):
        return set()
    called = {method for name, method in usage.loaded_on if name in names}
    called |= {"__call__"} if names & usage.loaded else set()
    tables = [vars(kind) for kind in type(value).__mro__ if not is_library(kind)]
    functions = [table[name] for table in tables for name in called if name in table]
    return {
        name for own in functions if isinstance(own, FunctionType) for name in getattr(_usage(own.__code__), what)
    }  # fmt: skip


def _objects(module: nn.Module, sources: Iterable[Source]) -> Iterator[tuple[int, tuple[Any, set[str]]]]:
    tables: list[Mapping[str, Any]] = [vars(module)]
    tables += [vars(kind) for kind in type(module).__mro__ if not is_library(kind)]
    for source in sources:
        read = {name for code in nested(source.code) for name in (*code.co_names, *code.co_freevars)}
        for table in (source.scope, source.closure):
            tables.append({name: table[name] for name in read if name in table})
    for table in tables:
        for name, value in table.items():
            if name.startswith("_") and name in _TORCH_OWN:
                continue
            for key, own in _mutable(value):
                yield key, (own, {name})


def _mutable(value: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    """The value, and what it holds, where a change of it would be seen by all who hold it."""
    if isinstance(value, (nn.Module, Tensor, np.ndarray, ModuleType, FunctionType, str, bytes)) or value is None:
        return
    kind: type = value if isinstance(value, type) else type(value)
    if isinstance(value, _CONTAINERS):
        yield id(value), value
        entries = cast("Iterable[Any]", value.values() if isinstance(value, dict) else value)
        if depth < 1:
            for own in list(entries)[:64]:
                yield from _mutable(own, depth + 1)
    elif not is_library(kind) and not issubclass(kind, (nn.Module, Tensor)):
        yield id(value), value


@lru_cache(maxsize=4096)
def _usage(code: CodeType) -> _Usage:
    found = _Usage()
    first = code.co_varnames[0] if code.co_argcount else None
    line: set[str] = set()
    on_locals: set[str] = set()  # attributes that are written on local variables
    is_changing, before = False, ("", "")
    for instruction in dis.get_instructions(code):
        name, opname = str(instruction.argval), instruction.opname
        if instruction.starts_line is not None:
            found.changed.update(line if is_changing else ())
            line, is_changing = set(), False
        is_local, is_held = before[0].startswith("LOAD_FAST"), before[0].startswith(_LOADS)
        is_own = before[0].startswith(_LOCALS) and before[1] == first  # a closure's variable, too
        if opname.startswith(_LOADS):
            line.add(name)
            found.loaded.add(name)
            is_attribute = opname.startswith(("LOAD_ATTR", "LOAD_METHOD"))
            found.foreign.update([name] if is_attribute and not is_own else [])
            found.loaded_on.update([(before[1], name)] if is_attribute and is_held else [])
            is_changing |= name in _CHANGING
        elif opname in ("STORE_ATTR", "STORE_GLOBAL", "DELETE_ATTR"):
            found.stored.add(name)
            if opname == "STORE_ATTR" and not is_own:
                found.foreign_stored.add(name)
                found.stored_on.update([(before[1], name)] if is_held else [])
                on_locals.update([name] if is_local else [])
        is_changing |= opname in ("STORE_SUBSCR", "DELETE_SUBSCR")
        before = (opname, name)
    found.changed.update(line if is_changing else ())
    found.stored_on.update((holder, name) for holder in found.loaded for name in on_locals)
    found.foreign.update(texts_as_names(code))
    return found


_TORCH_OWN = frozenset(vars(nn.Module()))
