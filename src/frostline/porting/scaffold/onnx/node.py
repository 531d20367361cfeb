"""One node of a graph on its way into the text of a module: inputs as expressions, settings as checked numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from frostline.porting.scaffold.onnx.values import FLOAT, INT, Numbers, Value, written
from frostline.porting.scaffold.python_text import NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.readers.contract import SourceTensor

Given = Value | Numbers
_MOST_AXES = 64  # of a tensor of PyTorch


@dataclass(frozen=True)
class LayerTensor:
    """A tensor of the file in a layer.

    Attributes:
        tensor: The tensor.
        own: What the layer calls it.
        is_transposed: Whether the layer has it transposed.
    """

    tensor: SourceTensor
    own: str
    is_transposed: bool = False


class Module(Protocol):
    """What a node may add to the module."""

    def layer(self, name: str, text: str) -> str:
        """Have a layer; its expression."""
        ...

    def parameter(self, tensor: SourceTensor, *, is_used: bool = True) -> Value:
        """A weight that belongs to no layer, or to one that has it already."""
        ...

    def buffer(self, values: Numbers) -> Value:
        """A constant as a tensor."""
        ...

    def weighted(self, text: str, held: Mapping[str, LayerTensor]) -> str | None:
        """Have a layer with weights; its expression.

        Args:
            text: How the layer is made.
            held: The tensors of the file that it holds, by leaf.

        Returns:
            None if the tensors are not one whole unit of the file that no other layer has.
        """
        ...

    @property
    def device(self) -> str:
        """The expression of the device that the module computes on."""
        ...


@dataclass(frozen=True)
class Several:
    """What a node with several outputs gives: one expression, taken apart.

    Attributes:
        text: The expression.
        values: Of its outputs; their texts are what is made of the parts, `{}` a part as it is.
        pattern: How the parts are taken, one `{}` for each output.
    """

    text: str
    values: tuple[Value, ...]
    pattern: str = ""


Result = Value | Numbers | Several | tuple["Value | Numbers", ...]


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        name: Of the node in the file.
        kind: Its operator.
        config: Its settings.
        inputs: What it takes; None where an input is left out, a tensor of the file where it is a weight.
        outputs: Which of its outputs are used.
        opset: The version of its operator's set.
        module: The module that is written.
        transposed: Inputs that are weights and go through a Transpose.
        bias: A bias that is added to its result, as a part of its unit.
        readable: A name for what it gives, and for a layer of it without weights.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[Value | Numbers | SourceTensor | None, ...]
    outputs: tuple[bool, ...]
    opset: int
    module: Module
    transposed: frozenset[int] = frozenset()
    bias: SourceTensor | None = None
    readable: str = "layer"

    def refuse(self, why: str = "") -> NoReturn:
        """Say that this node is not written."""
        raise NotWrittenError(f"the node {self.name!r} ({self.kind})" + (f": {why}" if why else ""))

    def has(self, slot: int) -> bool:
        """Whether an input is given."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def weight(self, slot: int) -> SourceTensor | None:
        """An input that is a weight as it stands in the file."""
        given = self.inputs[slot] if slot < len(self.inputs) else None
        return None if isinstance(given, (Value, Numbers)) or slot in self.transposed else given

    def given(self, slot: int) -> Given:
        """An input."""
        if not self.has(slot):
            self.refuse(f"it has no input {slot}")
        value = self.inputs[slot]
        if isinstance(value, (Value, Numbers)):
            return value
        assert value is not None
        held = self.module.parameter(value)
        return Value(f"{held.text}.T", 2) if slot in self.transposed else held

    def tensor(self, slot: int) -> Value:
        """An input as a tensor."""
        value = self.given(slot)
        return value if isinstance(value, Value) else self.as_tensor(value)

    def as_tensor(self, value: Numbers) -> Value:
        """Numbers as a tensor: a buffer where they are known, else made when the module runs."""
        if value.is_known:
            return self.module.buffer(value)
        return Value(f"torch.tensor({value.text}, device={self.module.device})", value.rank, value.kind)

    @property
    def x(self) -> Value:
        """The first input as a tensor."""
        return self.tensor(0)

    def list_of(self, slot: int) -> list[int | str]:
        """An input of whole numbers, such as a shape, as expressions."""
        value = self.given(slot)
        if isinstance(value, Value):
            if value.rank == 0:
                return [f"int({value.text})"]
            self.refuse(f"its input {slot} is computed from values, and its length is open")
        return [str(one) if isinstance(one, str) else int(one) for one in value.items]

    def known(self, slot: int) -> list[int]:
        """An input of whole numbers that the file holds."""
        found = [one for one in self.list_of(slot) if isinstance(one, int)]
        if len(found) != len(self.list_of(slot)):
            self.refuse(f"its input {slot} is computed")
        return found

    def scalar(self, slot: int) -> str:
        """An input that is one number, as an argument."""
        value = self.given(slot)
        if isinstance(value, Numbers) and len(value.items) == 1:
            return written(value.item)
        if isinstance(value, Numbers):
            self.refuse(f"its input {slot} is not one number")
        return value.text

    def integer(self, name: str, default: int | None) -> int:
        """A setting that is a whole number."""
        value = self.config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(f"{name} {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        """A setting that is a number."""
        value = self.config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(f"{name} {value!r}")
        return float(value)

    def integers(self, name: str, default: list[int] | None = None) -> list[int]:
        """A setting that is a list of whole numbers."""
        value = self.config.get(name, default)
        if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
            self.refuse(f"{name} {value!r}")
        return [int(one) for one in value]

    def choice(self, name: str, default: str, *allowed: str) -> str:
        """A setting that is one of a few words."""
        value = self.config.get(name, default)
        if value not in allowed:
            self.refuse(f"{name} {value!r}")
        return str(value)

    def axes(self, slot: int, name: str = "axes") -> list[int] | None:
        """Axes, which newer operators take as an input; None for all of them."""
        if self.has(slot):
            return self.known(slot)
        return self.integers(name) if name in self.config else None

    def axis(self, value: int, rank: int | None) -> int:
        """An axis, counted from the front where the rank is known."""
        if abs(value) > _MOST_AXES:
            self.refuse(f"axis {value}")
        return value + rank if value < 0 and rank is not None else value

    def need(self, rank: int | None) -> int:
        """A rank that has to be known."""
        if rank is None:
            self.refuse("the number of axes of its input is not known")
        return rank


def highest(*values: Given) -> int | None:
    """The rank of values that are broadcast."""
    ranks = [one.rank for one in values if isinstance(one, Value) or one.rank]
    known = [rank for rank in ranks if rank is not None]
    return None if len(known) < len(ranks) else max(known, default=0)


def widest(*values: Given) -> str:
    """The kind of what is computed from values."""
    kinds = {one.kind for one in values}
    return FLOAT if FLOAT in kinds else INT if INT in kinds else next(iter(kinds))
