"""What a pickle is made of besides plain values: names, calls that were not made, and what lies elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names: `torch._utils._rebuild_tensor_v2`."""

    text: str


@dataclass(frozen=True)
class Span:
    """Bytes that stay in the file.

    Attributes:
        start: Where they begin, as `Tape.read_at` counts.
        size: How many they are.
        is_text: Whether they are UTF-8, each character of which stands for one byte (Latin-1).
    """

    start: int
    size: int
    is_text: bool


@dataclass(frozen=True)
class Persistent:
    """A reference to something outside of the pickle, such as the memory of a tensor."""

    identity: Any

    def __repr__(self) -> str:
        return "a reference"  # parts may hold one another, and the whole text need not end


@dataclass(eq=False)
class RecordedCall:
    """What a call would have made; nothing was called.

    Attributes:
        name: Of the class or function.
        arguments: Plain values, and records of this module.
        state: What would have been given to `__setstate__`; None if nothing.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None

    def __repr__(self) -> str:
        return f"{self.name}(...)"


def shown(value: Any) -> str:
    """A few words about a value, for errors: a small pickle can make one whose whole text would fill the memory."""
    if isinstance(value, (tuple, list)):
        parts = cast("tuple[Any, ...]", value)
        return f"({', '.join(_word(part) for part in parts[:6])}{', ...' if len(parts) > 6 else ''})"
    return _word(value)


def _word(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return repr(value)[:60]
    return value.text[:60] if isinstance(value, Name) else f"a {type(value).__name__}"
