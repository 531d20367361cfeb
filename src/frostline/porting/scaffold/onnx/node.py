"""One node of a graph, to be translated: its inputs as expressions, its settings as checked numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from frostline.porting.scaffold.onnx.values import FLOAT, INT, Numbers, Value, written
from frostline.porting.scaffold.python_text import NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.readers.contract import SourceTensor

Given = Value | Numbers
_MOST_AXES = 64  # the limit of PyTorch


@dataclass(frozen=True)
class LayerTensor:
    """A tensor of the file that a layer of the module has.

    Attributes:
        tensor: The tensor.
        own: The name of the tensor in the layer.
        is_transposed: Whether it is transposed in the layer.
    """

    tensor: SourceTensor
    own: str
    is_transposed: bool = False


class Module(Protocol):
    """The module that is written; a node may add layers, parameters and buffers to it."""

    def layer(self, name: str, text: str) -> str:
        """Add a layer without weights; return its expression."""
        ...

    def parameter(self, tensor: SourceTensor, *, is_used: bool = True) -> Value:
        """Return the expression of a weight: in its layer, or else as a parameter that is added."""
        ...

    def buffer(self, values: Numbers) -> Value:
        """Add a constant tensor."""
        ...

    def weighted(self, text: str, held: Mapping[str, LayerTensor]) -> str | None:
        """Add a layer with weights; return its expression.

        Args:
            text: The expression in `__init__`.
            held: The tensors of the file that the layer has, by leaf.

        Returns:
            None if the tensors are not exactly one unit of the file, or if another layer has them.
        """
        ...

    @property
    def device(self) -> str:
        """The expression of the device of the inputs."""
        ...


@dataclass(frozen=True)
class Several:
    """The result of a node with several outputs: one expression that is unpacked.

    Attributes:
        text: The expression.
        values: One for each output; its text is an expression in which `{}` stands for the unpacked part.
        pattern: The left side of the assignment, with one `{}` for each output.
    """

    text: str
    values: tuple[Value, ...]
    pattern: str = ""


Result = Value | Numbers | Several | tuple["Value | Numbers", ...]


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        name: The name of the node in the file.
        kind: The operator.
        config: The settings.
        inputs: The inputs; None for an omitted one, a tensor of the file for a weight.
        outputs: For each output whether it is used.
        opset: The version of the operator set.
        module: The module that is written.
        transposed: The indices of inputs that are weights behind a Transpose.
        bias: A bias of the same unit that a later node adds to the result.
        readable: A name for the output, and for a layer without weights.
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
        """Raise the error for a node that has no translation."""
        raise NotWrittenError(f"the node {self.name!r} ({self.kind})" + (f": {why}" if why else ""))

    def has(self, slot: int) -> bool:
        """Whether an input is given."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def weight(self, slot: int) -> SourceTensor | None:
        """An input that is a weight of the file; None if it is computed or transposed."""
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
        """Numbers as a tensor: a buffer if they are known, else computed when the module runs."""
        if value.is_known:
            return self.module.buffer(value)
        return Value(f"torch.tensor({value.text}, device={self.module.device})", value.rank, value.kind)

    @property
    def x(self) -> Value:
        """The first input as a tensor."""
        return self.tensor(0)

    def list_of(self, slot: int) -> list[int | str]:
        """An input of integers, such as a shape, as numbers and expressions."""
        value = self.given(slot)
        if isinstance(value, Value):
            if value.rank == 0:
                return [f"int({value.text})"]
            self.refuse(f"its input {slot} is computed from values, and its length is open")
        return [str(one) if isinstance(one, str) else int(one) for one in value.items]

    def known(self, slot: int) -> list[int]:
        """An input of integers that are known."""
        found = [one for one in self.list_of(slot) if isinstance(one, int)]
        if len(found) != len(self.list_of(slot)):
            self.refuse(f"its input {slot} is computed")
        return found

    def scalar(self, slot: int) -> str:
        """An input that is one number, as the text of an argument."""
        value = self.given(slot)
        if isinstance(value, Numbers) and len(value.items) == 1:
            return written(value.item)
        if isinstance(value, Numbers):
            self.refuse(f"its input {slot} is not one number")
        return value.text

    def integer(self, name: str, default: int | None) -> int:
        """A setting that is an integer."""
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
        """A setting that is a list of integers."""
        value = self.config.get(name, default)
        if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
            self.refuse(f"{name} {value!r}")
        return [int(one) for one in value]

    def choice(self, name: str, default: str, *allowed: str) -> str:
        """A setting with a fixed set of allowed words."""
        value = self.config.get(name, default)
        if value not in allowed:
            self.refuse(f"{name} {value!r}")
        return str(value)

    def axes(self, slot: int, name: str = "axes") -> list[int] | None:
        """The axes, which are an input of newer operators and a setting of older ones; None if not given."""
        if self.has(slot):
            return self.known(slot)
        return self.integers(name) if name in self.config else None

    def axis(self, value: int, rank: int | None) -> int:
        """An axis as a non-negative number if the rank is known."""
        if abs(value) > _MOST_AXES:
            self.refuse(f"axis {value}")
        return value + rank if value < 0 and rank is not None else value

    def need(self, rank: int | None) -> int:
        """The rank; an unknown one is refused."""
        if rank is None:
            self.refuse("the number of axes of its input is not known")
        return rank


def highest(*values: Given) -> int | None:
    """The rank of the broadcast result of values; None if it is not known."""
    ranks = [one.rank for one in values if isinstance(one, Value) or one.rank]
    known = [rank for rank in ranks if rank is not None]
    return None if len(known) < len(ranks) else max(known, default=0)


def widest(*values: Given) -> str:
    """The kind of elements of a result that is computed from values."""
    kinds = {one.kind for one in values}
    return FLOAT if FLOAT in kinds else INT if INT in kinds else next(iter(kinds))
