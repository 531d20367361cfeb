"""The names that code reads, and whose code it is."""

from __future__ import annotations

import dis
import functools
import itertools
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

_ADDING = ("append", "extend", "add", "update", "appendleft")  # methods that add to a container and give nothing back
_LIBRARIES = frozenset((*sys.stdlib_module_names, "torch", "numpy", "frostline")) - {"__main__"}
_ENTROPY = frozenset(("urandom", "getrandom", "secrets", "SystemRandom", "uuid4"))
_MAKERS = frozenset(("default_rng", "RandomState", "Random", "SeedSequence", "PCG64", "MT19937", "Philox", "SFC64"))
_BEFORE_CALLS = frozenset(("PUSH_NULL", "PRECALL", "CACHE"))
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: classes that were made by Python code


class Cells(Mapping[str, Any]):
    """The variables that a function shares with the one that made it, as they are now."""

    def __init__(self, function: FunctionType) -> None:
        self._cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))

    def __getitem__(self, key: str) -> Any:
        try:
            return self._cells[key].cell_contents
        except ValueError:  # not yet assigned
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        self._cells[key].cell_contents = value

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._cells if key in self)

    def __contains__(self, key: object) -> bool:
        try:
            self[str(key)]
        except KeyError:
            return False
        return True

    def __len__(self) -> int:
        return len(list(iter(self)))


def nested(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of functions defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


@functools.lru_cache(maxsize=4096)
def loaded(code: CodeType) -> frozenset[str]:
    """Names whose values the code uses: not those that it only adds to, as `self.calls += 1` and `log.append(x)` do."""
    return _used(code, ("LOAD_ATTR", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_METHOD"))


@functools.lru_cache(maxsize=4096)
def loaded_arguments(code: CodeType) -> frozenset[str]:
    """Arguments and local names whose values the code uses, as `loaded`; an inner function's use counts."""
    return _used(code, ("LOAD_FAST", "LOAD_DEREF")) | frozenset(code.co_cellvars)


def _used(code: CodeType, opcodes: tuple[str, ...]) -> frozenset[str]:
    instructions, found = list(dis.get_instructions(code)), set[str]()
    for at, instruction in enumerate(instructions):
        if not instruction.opname.startswith(opcodes):
            continue
        before = instructions[at - 1].opname if at else ""
        after = instructions[at + 1].argval if at + 1 < len(instructions) else None
        is_added_to = before in ("COPY", "DUP_TOP") or after in _ADDING
        if not is_added_to:  # one instruction may load two names
            names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
            found.update(map(str, cast("tuple[Any, ...]", names)))
    return frozenset(found)


def is_library(value: Any) -> bool:
    """True for modules, classes and functions of Python, torch, NumPy and this project: no model keeps state there."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    is_builtin = isinstance(value, type) and not value.__flags__ & _HEAP_TYPE
    return is_builtin or str(name).split(".")[0] in _LIBRARIES


def is_installed(value: Any) -> bool:
    """True for what is no code of the caller's own: libraries, and packages that were installed."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    file = str(getattr(sys.modules.get(str(name)), "__file__", None))
    return is_library(value) or "site-packages" in file or "dist-packages" in file


@functools.lru_cache(maxsize=4096)
def entropy_in(code: CodeType) -> str | None:
    """What the code asks for random numbers that have no seed: the system, or a generator made there; or None."""
    if found := sorted(_ENTROPY.intersection(code.co_names)):
        return found[0]
    instructions = [own for own in dis.get_instructions(code) if own.opname not in _BEFORE_CALLS]
    pairs = itertools.pairwise(instructions)
    made = [own for own, then in pairs if own.argval in _MAKERS and then.opname.startswith("CALL") and then.arg == 0]
    return f"{made[0].argval}() without a seed" if made else None
