"""The attributes that an object keeps itself, as a table that follows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def attributes_of(value: Any) -> Mapping[str, Any]:
    """The attributes that an object keeps itself, as a table that follows them."""
    if hasattr(value, "__dict__"):
        return vars(value)
    slots = [kind.__dict__.get("__slots__", ()) for kind in type(value).__mro__]
    names = [name for own in slots for name in ((own,) if isinstance(own, str) else own)]
    return _Slots(value, [name for name in names if not name.startswith("__")])


class _Slots(Mapping[str, Any]):
    """The slots of an object as a table."""

    def __init__(self, value: Any, names: Sequence[str]) -> None:
        self._value, self._names = value, names

    def __getitem__(self, key: str) -> Any:
        if key not in self._names or not hasattr(self._value, key):
            raise KeyError(key)
        return getattr(self._value, key)

    def __setitem__(self, key: str, value: Any) -> None:
        object.__setattr__(self._value, key, value)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if hasattr(self._value, name))

    def __len__(self) -> int:
        return len(list(iter(self)))
