"""Pools of values: for one parameter, what people usually pass, and what they pass by mistake.

A value is named by a label and made afresh by a function of the world, so that a call is a plain text, such as
`freeze(model=mlp, through=bytes)`, and is the same each time it is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Make = Callable[["World"], Any]
UNSET = "-"  # the parameter is not passed


class UserFault(Exception):  # noqa: N818 (it stands for any exception of the user's own code)
    """Raised by models, data sets and losses of the fuzzer itself: a public call may let it through."""


@dataclass
class World:
    """What the values of one call share.

    Attributes:
        folder: Empty, and the call's own.
        values: What was made so far, by parameter; the model comes first.
    """

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        """The model of this call."""
        return self.values.get("model", self.values.get("target"))


@dataclass(frozen=True)
class Pool:
    """Values of one parameter by label."""

    sane: Mapping[str, Make]
    odd: Mapping[str, Make] = field(default_factory=dict)

    def make(self, label: str, world: World) -> Any:
        """The value of this label."""
        return (self.sane.get(label) or self.odd[label])(world)

    def usual(self, *labels: str) -> Pool:
        """The same values, of which only these are sane, in this order."""
        both = {**self.sane, **self.odd}
        return Pool({label: both[label] for label in labels}, {k: v for k, v in both.items() if k not in labels})

    def without(self, *labels: str) -> Pool:
        """Without these, which this parameter cannot be asked for."""
        return Pool(*({k: v for k, v in part.items() if k not in labels} for part in (self.sane, self.odd)))

    def optional(self) -> Pool:
        """It need not be passed."""
        return Pool({UNSET: lambda _: None, **self.sane}, self.odd)

    @property
    def default(self) -> str:
        """The label that a minimised call falls back to."""
        return next(iter(self.sane))


@dataclass(frozen=True)
class Call:
    """One call: a door and a label for each of its parameters."""

    door: str
    labels: Mapping[str, str]

    def __str__(self) -> str:
        passed = ", ".join(f"{name}={label}" for name, label in self.labels.items() if label != UNSET)
        return f"{self.door}({passed})"

    def plainly(self, defaults: Mapping[str, str]) -> str:
        """What is not plain about it; `parse` takes it back."""
        return str(Call(self.door, {name: label for name, label in self.labels.items() if label != defaults[name]}))

    @staticmethod
    def parse(text: str, defaults: Mapping[str, str]) -> Call:
        """The call that prints like this; parameters that are not named have these labels.

        Example:
            >>> str(Call.parse("freeze(model=mlp)", {"model": "bert", "through": "-"}))
            'freeze(model=mlp)'
        """
        door, _, inside = text.strip().removesuffix(")").partition("(")
        given = dict(re.findall(r"(\w+)=([^,]+?)(?:, |$)", inside))
        return Call(door, {name: given.get(name, label) for name, label in defaults.items()})


def constants(values: Mapping[str, Any]) -> dict[str, Make]:
    """Values that nothing can change, by label."""
    return {label: (lambda _, value=value: value) for label, value in values.items()}
