"""Where in a run a value was made: addresses that stay the same from run to run."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Frame:
    """The `nth` call, counted from 0, of the module `name` within one run of the model."""

    name: str
    nth: int


@dataclass(frozen=True)
class Point:
    """One tensor among the results of a call made directly inside `frame`.

    A position among all calls of the run would not do: wholly frozen modules run without a listener in
    `extract`, so that they take their usual fast path.

    `operation` is the torch function's name, and `nth` counts its calls within the frame; the results of the
    frame's module itself have the operation `"return"`, model inputs the operation `"input"`.
    """

    frame: Frame
    operation: str
    nth: int
    leaf: int | str = 0

    @property
    def name(self) -> str:
        """The name in messages and in the frontier: `layer3`, `layer2.add_1`, `input.attention_mask`."""
        if self.operation == "input":
            return f"input.{self.leaf}"
        suffix = f"_{self.leaf}" if self.leaf else ""
        if self.operation == "return":
            nth = f"#{self.frame.nth}" if self.frame.nth else ""
            return f"{self.frame.name}{nth}{suffix}"
        call = f"{self.operation}_{self.nth}" if self.nth else self.operation
        return f"{self.frame.name}.{call}{suffix}" if self.frame.name else f"{call}{suffix}"


def address_text(address: Point | Frame) -> list[Any]:
    """An address as plain values, as JSON has them."""
    return list(astuple(address))


def as_address(values: list[Any]) -> Point | Frame:
    """The address that `address_text` made these values of."""
    if isinstance(values[0], list):
        frame, operation, nth, leaf = values
        return Point(Frame(*frame), operation, nth, leaf)
    return Frame(*values)


@dataclass
class OpenFrame:
    """A frame while its module runs."""

    frame: Frame
    module: nn.Module
    opened_at: int
    operations: Counter[str] = field(default_factory=lambda: Counter[str]())

    def following(self, operation: str) -> Point:
        """The address that the next call of `operation` in this frame will have."""
        return Point(self.frame, operation, self.operations[operation])

    def point(self, operation: str) -> Point:
        """The address of this call of `operation`; the next one has another."""
        point = self.following(operation)
        self.operations[operation] += 1
        return point


class Frames:
    """The stack of open frames of one run."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(module): name for name, module in model.named_modules()}
        self.calls: Counter[str] = Counter()
        self.stack: list[OpenFrame] = []

    def is_known(self, module: nn.Module) -> bool:
        """True if the module is registered in the model."""
        return id(module) in self.names

    def counted(self, module: nn.Module) -> Frame | None:
        """The frame of a call that is not opened; None for a module that is not registered."""
        name = self.names.get(id(module))
        if not name:  # the model itself is in no other frame
            return None
        self.calls[name] += 1
        return Frame(name, self.calls[name] - 1)

    def opened(self, module: nn.Module, opened_at: int = 0) -> OpenFrame:
        """Open the frame of a registered module."""
        name = self.names[id(module)]
        frame = Frame(name, self.calls[name])
        self.calls[name] += 1
        self.stack.append(OpenFrame(frame, module, opened_at))
        return self.stack[-1]

    def close(self) -> None:
        """Close the innermost frame."""
        self.stack.pop()

    @property
    def top(self) -> OpenFrame:
        """The innermost open frame."""
        return self.stack[-1]
