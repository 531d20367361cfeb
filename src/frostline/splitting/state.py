"""What a model keeps in Python from call to call: attributes, containers, class attributes, globals and closures.

A graph holds numbers, texts and plain tensors as the recording read them. So the frozen part must not move them from
batch to batch (`moving_state`), and they must stay what they are after the split (`watched_places`).
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from frostline.core.digests import tensor_digest
from frostline.core.errors import NotCacheable

# Attributes of every module that are torch's own; `training` is chosen by the mode of the head.
_TORCH_OWN = frozenset(vars(nn.Module()))
_MAX_DEPTH = 4
_MAX_PLACES = 2000  # of one watch: a table of a million numbers is not a configuration
_MAX_CODES = 4096  # whose instructions are remembered: what a function names follows from its code alone
_ADDING = ("append", "extend", "add", "update", "appendleft")  # methods that add to a container and give nothing back
_NUMBERS = (bool, int, float, complex, str, bytes)


@dataclass(frozen=True)
class Source:
    """The code of a model that ran: what it reads from its globals and closures, and the attributes it names."""

    code: CodeType
    scope: Mapping[str, Any]
    closure: Mapping[str, Any]

    @classmethod
    def of_frame(cls, frame: FrameType) -> Source:
        """The code that a frame runs."""
        names = frame.f_code.co_freevars
        held = {name: frame.f_locals[name] for name in names if name in frame.f_locals} if names else {}
        return cls(frame.f_code, frame.f_globals, held)

    @classmethod
    def of_function(cls, function: FunctionType) -> Source:
        """The code of a function that did not call torch itself."""
        held: dict[str, Any] = {}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                held[name] = cell.cell_contents
            except ValueError:  # not yet assigned
                continue
        return cls(function.__code__, function.__globals__, held)


class Place:
    """Where one value is kept: an entry of a table, by its name for people."""

    def __init__(self, name: str, table: Mapping[Any, Any] | Sequence[Any], key: Any) -> None:
        self.name, self._table, self._key = name, table, key
        self.value = self.now()
        self._mark = _mark(self.value)

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
        if isinstance(now, _NUMBERS) and isinstance(self.value, _NUMBERS):
            return now != self.value and now == now
        return now is not self.value or _mark(now) != self._mark


class _Size(Sequence[int]):
    """The length of a container as an entry of a table."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return len(self._container)


def watched_places(modules: Mapping[str, nn.Module], sources: Iterable[Source]) -> list[Place]:
    """Every number, text and plain tensor that the code may read from these modules, its globals and its closures.

    What forward itself writes is left out: it is moved by every call, and `moving_state` has looked at it.
    """
    walk = _Walk(list(sources), modules.values())
    for name, module in modules.items():
        walk.module(name, module)
    walk.scopes()
    return walk.places


def moving_state(
    model: nn.Module, names: Iterable[str], sources: Iterable[Source], run: Callable[[], Any]
) -> list[str]:
    """What the named modules and the code keep that one more call of `run`, with the same batch, changes."""
    modules, names = dict(model.named_modules()), list(names)
    own = [modules[name] for name in names]
    walk = _Walk(list(sources), own, is_complete=True)
    for name in names:
        walk.module(name, modules[name])
    walk.scopes()
    before = {place.name: fingerprint(place.value) for place in walk.places}
    run()
    again = _Walk(walk.sources, own, is_complete=True)
    for name in names:
        again.module(name, modules[name])
    again.scopes()
    after = {place.name: fingerprint(place.value) for place in again.places}
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def keeps_state_error(names: Sequence[str]) -> NotCacheable:
    """The frozen part remembers batches."""
    shown = ", ".join(repr(name) for name in names[:4])
    return NotCacheable(
        what=f"The model keeps state from batch to batch outside of its trainable layers: {shown}.",
        where=names[0] if names else "the model",
        received="another value after one more call with the same batch",
        do="keep the state in a module of its own that is trainable and holds no frozen layers, or remove it; or train "
        "with frostline.fit(..., cache=False).",
    )


def fingerprint(value: Any, depth: int = 0) -> Any:
    """A value as something that can be compared later."""
    if isinstance(value, Tensor):
        return tensor_digest(value)
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    if value is None or isinstance(value, _NUMBERS):
        return repr(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return tuple((str(key), fingerprint(part, depth + 1)) for key, part in cast("Mapping[Any, Any]", value).items())
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return tuple(fingerprint(part, depth + 1) for part in cast("Iterable[Any]", value))
    return type(value).__qualname__


def _mark(value: Any) -> Any:
    """What tells that a value was written in place; None where nothing can be."""
    if isinstance(value, Tensor):
        return value._version
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return None


class _Walk:
    """Collects places; `is_complete` takes those too that forward itself writes."""

    def __init__(self, sources: list[Source], modules: Iterable[nn.Module], *, is_complete: bool = False) -> None:
        kinds = {kind for module in modules for kind in type(module).__mro__ if not _is_torch(kind)}
        self.sources, self.places = _with_callees(sources, kinds), list[Place]()
        self._is_complete = is_complete
        codes = [part for source in self.sources for part in _nested(source.code)]
        self._read = {name for code in codes for name in _loaded(code)}
        self._written = set[str]() if is_complete else {name for code in codes for name in _stored(code)}
        self._seen: set[int] = set()

    def module(self, name: str, module: nn.Module) -> None:
        """Attributes of the module and of its classes."""
        prefix = f"{name}." if name else ""
        self._table(prefix, vars(module), _TORCH_OWN)
        for kind in type(module).__mro__:
            if not _is_torch(kind):
                self._table(f"{kind.__name__}.", vars(kind), frozenset())

    def scopes(self) -> None:
        """Globals and closures that the code names."""
        for source in self.sources:
            for name in sorted({name for code in _nested(source.code) for name in _loaded(code)} & source.scope.keys()):
                self._value(f"the global {name}", source.scope, name, 0)
            for name in self._read & source.closure.keys():
                self._value(f"{name} of {source.code.co_name}", source.closure, name, 0)

    def _table(self, prefix: str, table: Mapping[str, Any], hidden: frozenset[str]) -> None:
        for key in list(table):
            if key in self._read and key not in hidden and key not in self._written:
                self._value(f"{prefix}{key}", table, key, 0)

    def _value(self, name: str, table: Any, key: Any, depth: int) -> None:
        if len(self.places) >= _MAX_PLACES or depth > _MAX_DEPTH:
            return
        value = table[key]
        if value is None or isinstance(value, (*_NUMBERS, Tensor, np.ndarray)):
            if not isinstance(value, nn.Parameter):
                self.places.append(Place(name, table, key))
        elif isinstance(value, (nn.Module, ModuleType, FunctionType, type)) or id(value) in self._seen:
            return
        elif isinstance(value, Mapping):
            self._container(name, value, list(cast("Mapping[Any, Any]", value)), depth)
        elif isinstance(value, (list, tuple)):
            self._container(name, value, range(len(cast("Sequence[Any]", value))), depth)
        elif hasattr(value, "__dict__") and not callable(value):
            self._seen.add(id(value))
            entries = vars(value)
            for key_ in [key_ for key_ in entries if key_ in self._read and key_ not in self._written]:
                self._value(f"{name}.{key_}", entries, key_, depth + 1)

    def _container(self, name: str, container: Any, keys: Iterable[Any], depth: int) -> None:
        self._seen.add(id(container))
        self.places.append(Place(f"len({name})", _Size(container), 0))
        for key in keys:
            self._value(f"{name}[{key!r}]", container, key, depth + 1)


def _with_callees(sources: list[Source], kinds: Iterable[type]) -> list[Source]:
    """The code, and the functions that it names: they may have returned before anything could be heard of them."""
    methods = {name: value for kind in kinds for name, value in vars(kind).items()}
    found = {id(source.code): source for source in sources}
    waiting = list(sources)
    while waiting:
        source = waiting.pop()
        for code in _nested(source.code):
            named = (
                table[name] for table in (source.scope, source.closure, methods)
                for name in (*code.co_names, *code.co_freevars) if name in table
            )  # fmt: skip
            for function in map(_function, named):
                if function is not None and id(function.__code__) not in found:
                    waiting.append(Source.of_function(function))
                    found[id(function.__code__)] = waiting[-1]
    return list(found.values())


def _is_torch(kind: type) -> bool:
    return kind is object or kind.__module__.split(".")[0] == "torch"


def _function(value: Any) -> FunctionType | None:
    """The function behind a name, if it is the user's own."""
    value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    is_own = isinstance(value, FunctionType) and not value.__module__.startswith(("torch", "frostline"))
    return value if is_own else None


@lru_cache(_MAX_CODES)
def _nested(code: CodeType) -> tuple[CodeType, ...]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return (code, *(part for constant in inner for part in _nested(constant)))


@lru_cache(_MAX_CODES)
def _loaded(code: CodeType) -> frozenset[str]:
    """Names whose values the code uses: not those that it only adds to, as `self.calls += 1` and `log.append(x)` do."""
    instructions, found = list(dis.get_instructions(code)), set[str]()
    for at, instruction in enumerate(instructions):
        if not instruction.opname.startswith(("LOAD_ATTR", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_METHOD")):
            continue
        before = instructions[at - 1].opname if at else ""
        after = instructions[at + 1].argval if at + 1 < len(instructions) else None
        is_added_to = before in ("COPY", "DUP_TOP") or after in _ADDING
        if not is_added_to:
            found.add(str(instruction.argval))
    return frozenset(found)


@lru_cache(_MAX_CODES)
def _stored(code: CodeType) -> frozenset[str]:
    written = ("STORE_ATTR", "STORE_GLOBAL", "DELETE_ATTR")
    return frozenset(str(each.argval) for each in dis.get_instructions(code) if each.opname in written)
