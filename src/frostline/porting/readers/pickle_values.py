"""Values of an interpreted pickle that are not plain Python values: names, recorded calls, and references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True)
class Name:
    """The name of a class or function in the pickle, such as `torch._utils._rebuild_tensor_v2`."""

    text: str


@dataclass(frozen=True)
class Span:
    """Bytes that stay in the file.

    Attributes:
        start: Their offset, as for `Tape.read_at`.
        size: Their number.
        is_text: Whether they are a UTF-8 string in which each character represents one byte (Latin-1).
    """

    start: int
    size: int
    is_text: bool


@dataclass(frozen=True)
class Persistent:
    """A reference to an object outside of the pickle, such as the storage of a tensor."""

    identity: Any

    def __repr__(self) -> str:
        return "a reference"  # values may contain each other, so the full text may be infinite


@dataclass(eq=False)
class RecordedCall:
    """A call that the pickle contains and that was not executed.

    Attributes:
        name: The name of the class or function.
        arguments: Plain values, and values of this module.
        state: The argument of `__setstate__`; None if there is none.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None

    def __repr__(self) -> str:
        return f"{self.name}(...)"


def shown(value: Any) -> str:
    """A short text for a value, for errors: the full text of a value in a small pickle may fill the memory."""
    if isinstance(value, (tuple, list)):
        parts = cast("tuple[Any, ...]", value)
        return f"({', '.join(_word(part) for part in parts[:6])}{', ...' if len(parts) > 6 else ''})"
    return _word(value)


def _word(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return repr(value)[:60]
    return value.text[:60] if isinstance(value, Name) else kind_of(value)


def kind_of(value: Any) -> str:
    """The kind of a value, for errors: `a list`, `the result of a call`."""
    kinds = {RecordedCall: "the result of a call", Persistent: "a reference", Span: "bytes in the file", Name: "a name"}
    return kinds.get(type(value), f"a {type(value).__name__}")
