"""One call of a layer, to be translated: its settings as checked numbers, its inputs as expressions.

Images and volumes have their channels on axis 1 in the module; the axes of all other values are those of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from frostline.porting.scaffold.python_text import NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN = "?"  # a mask that depends on the order in which Keras runs the layers


@dataclass(frozen=True)
class Call:
    """A layer, called on values.

    Attributes:
        name: The attribute of the module for the layer.
        kind: The class of the layer.
        config: The settings of the layer.
        shapes: The shapes of its inputs with the batch axis, channels last.
        shape: The shape of its output, likewise.
        inputs: The expressions of its inputs.
        version: As in `Layer`.
        packs_attention: Whether every attention of the network can be an `nn.MultiheadAttention`; all become the same
            type.
        masks: For each input the expression of its mask; empty if all steps count.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    inputs: tuple[str, ...]
    version: int = 3
    packs_attention: bool = True
    masks: tuple[str, ...] = ()

    def refuse(self, why: str = "") -> NoReturn:
        """Raise the error for a layer that has no translation."""
        raise NotWrittenError(f"{self.name} ({self.kind})" + (f": {why}" if why else ""))

    @property
    def x(self) -> str:
        """The expression of its only input."""
        return self.inputs[0]

    @property
    def mask(self) -> str:
        """The expression of the mask of its first input; empty if all steps count. An unknown mask is refused."""
        if UNKNOWN in self.masks:
            self.refuse("padded steps, which versions of Keras treat differently here")
        return self.masks[0] if self.masks else ""

    @property
    def has_masks(self) -> bool:
        """Whether any of its inputs has a mask. An unknown mask is refused."""
        return bool(self.mask or any(self.masks))

    @property
    def rank(self) -> int:
        """The number of axes of its first input, with the batch axis."""
        return len(self.shapes[0])

    @property
    def width(self) -> int:
        """The number of channels or features of its first input."""
        return self.shapes[0][-1]

    def sizes(self, name: str, default: Any) -> tuple[int, ...]:
        """A setting of one integer for each axis between batch and channels."""
        value, axes = self.config.get(name, default), self.rank - 2
        value = [value] * axes if isinstance(value, int) else value
        if not isinstance(value, (list, tuple)) or len(value) != axes or not all(isinstance(one, int) for one in value):
            self.refuse(f"{name} {value!r}")
        return tuple(int(one) for one in value)

    def number(self, name: str, default: float) -> float:
        """A setting that is one number."""
        value = self.config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(f"{name} {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """A setting that is true or false."""
        return bool(self.config.get(name, default))


def first(expression: str, rank: int) -> str:
    """The expression of a value with channels last, in the order of the module."""
    return f"{expression}.movedim(-1, 1)" if rank > 3 else expression


def last(expression: str, rank: int) -> str:
    """The expression of a value in the order of the module, with channels last."""
    return f"{expression}.movedim(1, -1)" if rank > 3 else expression


def over_channels(call: Call, layer: str) -> str:
    """The call of a layer that needs channels on axis 1: sequences are transposed before and after it."""
    return f"{layer}({call.x}.transpose(1, 2)).transpose(1, 2)" if call.rank == 3 else f"{layer}({call.x})"
