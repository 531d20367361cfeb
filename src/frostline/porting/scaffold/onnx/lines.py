"""The lines of `forward`: variables get their names when all lines are known, and unused lines are left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from frostline.porting.scaffold.onnx.values import Value
from frostline.porting.scaffold.python_text import unused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.scaffold.onnx.node import Several

_MARK = re.compile(r"\b_v(\d+)_\b")  # a variable without a name yet; no identifier of a file begins like this
_NAME = re.compile(r"(self\.)?\w+")


@dataclass(frozen=True)
class _Line:
    made: tuple[int, ...]
    pattern: str
    text: str
    hint: str


class Lines:
    """The arguments and lines of `forward`, in order.

    Attributes:
        first: The first argument.
    """

    def __init__(self) -> None:
        self.first = ""
        self._lines: list[_Line] = []
        self._arguments: list[tuple[int, str]] = []
        self._count = 0

    def argument(self, name: str, rank: int | None, kind: str) -> Value:
        """Add an argument of `forward`."""
        (value,) = self._marks(1)
        self._arguments.append((value, name))
        self.first = self.first or f"_v{value}_"
        return Value(f"_v{value}_", rank, kind)

    def add(self, value: Value, hint: str) -> Value:
        """Add a line that assigns a value to a variable, unless the value is a variable already."""
        if _NAME.fullmatch(value.text):
            return value
        (made,) = self._marks(1)
        self._lines.append(_Line((made,), "{}", value.text, hint))
        return replace(value, text=f"_v{made}_")

    def add_several(self, several: Several, hint: str) -> list[Value]:
        """Add a line that assigns several values at once, and one more line for each that is changed afterwards."""
        made = self._marks(len(several.values))
        pattern = several.pattern or ", ".join(["{}"] * len(made))
        self._lines.append(_Line(tuple(made), pattern, several.text, hint))
        return [
            self.add(replace(value, text=value.text.format(f"_v{one}_")), hint)
            for value, one in zip(several.values, made, strict=True)
        ]

    def named(self, outputs: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
        """The arguments, lines and outputs with names; a variable that only the next line uses is `x`."""
        lines = self._needed(outputs)
        texts = [*(line.text for line in lines), ", ".join(outputs)]
        users: dict[int, set[int]] = {}
        for at, text in enumerate(texts):
            for mark in _MARK.findall(text):
                users.setdefault(int(mark), set()).add(at)
        names: dict[int, str] = {}
        for one, name in self._arguments:
            is_passed = len(self._arguments) == 1 and users.get(one, set()) <= {0}
            names[one] = "x" if is_passed else unused(name, names.values())
        for at, line in enumerate(lines):
            for one in line.made:
                used = users.get(one, set())
                is_passed = used == {at + 1} and len(line.made) == 1
                names[one] = "x" if is_passed else unused(line.hint, names.values()) if used else "_"

        def named_text(text: str) -> str:
            return _MARK.sub(lambda mark: names[int(mark[1])], text)

        written = [
            f"{line.pattern.format(*(names[one] for one in line.made))} = {named_text(line.text)}" for line in lines
        ]
        return [names[one] for one, _ in self._arguments], written, [named_text(one) for one in outputs]

    def _needed(self, outputs: Sequence[str]) -> list[_Line]:
        wanted = {int(mark) for text in outputs for mark in _MARK.findall(text)}
        kept: list[_Line] = []
        for line in reversed(self._lines):
            if wanted & set(line.made):
                wanted |= {int(mark) for mark in _MARK.findall(line.text)}
                kept.append(line)
        return kept[::-1]

    def _marks(self, count: int) -> list[int]:
        self._count += count
        return list(range(self._count - count, self._count))
