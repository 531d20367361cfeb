"""Where values are kept, as tables whose entries can be read and set: classes, context variables, sizes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from frostline.core.attributes import attributes_of


class HeldEntries(Mapping[Any, Any]):
    """The entries that a dict holds, whatever its class does when one is read: a registry may build what it names."""

    def __init__(self, held: dict[Any, Any]) -> None:
        self._held = held
        self._kind: type[dict[Any, Any]] = OrderedDict if isinstance(held, OrderedDict) else dict

    def __getitem__(self, key: Any) -> Any:
        if not self._kind.__contains__(self._held, key):  # a class may make what is missing
            raise KeyError(key)
        return self._kind.__getitem__(self._held, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._kind.__setitem__(self._held, key, value)

    def __delitem__(self, key: Any) -> None:
        self._kind.__delitem__(self._held, key)

    def __iter__(self) -> Iterator[Any]:
        return self._kind.__iter__(self._held)

    def __len__(self) -> int:
        return self._kind.__len__(self._held)

    def fill(self, entries: Iterable[tuple[Any, Any]]) -> None:
        """Hold these entries, and no others."""
        self._kind.clear(self._held)
        for key, value in entries:
            self[key] = value


class SizeTable(Sequence[int]):
    """The length of a container as an entry of a table."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return len(self._container)


class ContextTable(Mapping[str, Any]):
    """What a context variable holds, as an entry of a table."""

    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable

    def __getitem__(self, key: str) -> Any:
        try:
            return self._variable.get()
        except LookupError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        self._variable.set(value)

    def __iter__(self) -> Iterator[str]:
        return iter(("get",) if _is_set(self) else ())

    def __len__(self) -> int:
        return int(_is_set(self))


def _is_set(context: ContextTable) -> bool:
    try:
        context["get"]
    except KeyError:
        return False
    return True


class ShownTable(Mapping[str, Any]):
    """Attributes of a class as an object has them; those of the object itself, and what is computed, are left out."""

    def __init__(self, value: Any, kind: type) -> None:
        own, held = attributes_of(value), vars(kind).items()
        self._value, self._kind = value, kind
        self._names = [name for name, part in held if name not in own and not hasattr(part, "__get__")]

    def __getitem__(self, key: str) -> Any:
        if key not in self._names or not hasattr(self._value, key):
            raise KeyError(key)
        return getattr(self._value, key)

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self._kind, key, value)

    def __delitem__(self, key: str) -> None:
        delattr(self._kind, key)

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class ClassTable(Mapping[str, Any]):
    """The attributes of a class itself: `vars` of one cannot be set."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __getitem__(self, key: str) -> Any:
        return vars(self._kind)[key]

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self._kind, key, value)

    def __delitem__(self, key: str) -> None:
        delattr(self._kind, key)

    def __iter__(self) -> Iterator[str]:
        return iter([*vars(self._kind)])

    def __len__(self) -> int:
        return len(vars(self._kind))
