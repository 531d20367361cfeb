"""One call of a layer on its way into the text of a module: its settings as checked numbers, its values as expressions.

Values of images and volumes have their channels on axis 1 in the module, all others lie as in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from frostline.porting.scaffold.python_text import NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN = "?"  # a mask that only some layers see, by the order in which Keras runs them


@dataclass(frozen=True)
class Call:
    """A layer, called on values.

    Attributes:
        name: Of the attribute in the module.
        kind: Its class.
        config: Its settings.
        shapes: Of its inputs with the batch axis, channels last.
        shape: Of its output, likewise.
        inputs: The expressions of its inputs.
        version: As of `Layer`.
        masks: For each input the expression of its mask; empty where all steps count.
        packs_attention: Whether all attentions of the network can be `nn.MultiheadAttention`: all have one form.
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
        """Say that this layer is not written."""
        raise NotWrittenError(f"{self.name} ({self.kind})" + (f": {why}" if why else ""))

    @property
    def x(self) -> str:
        """The expression of its only input."""
        return self.inputs[0]

    @property
    def mask(self) -> str:
        """The expression of the mask of its first input, which it needs; empty if all steps count."""
        if UNKNOWN in self.masks:
            self.refuse("padded steps, which versions of Keras treat differently here")
        return self.masks[0] if self.masks else ""

    @property
    def has_masks(self) -> bool:
        """Whether any step of its inputs may be padding, all of which it needs to know."""
        return bool(self.mask or any(self.masks))

    @property
    def rank(self) -> int:
        """Axes of its first input, with the batch."""
        return len(self.shapes[0])

    @property
    def width(self) -> int:
        """Channels or features of its first input."""
        return self.shapes[0][-1]

    def sizes(self, name: str, default: Any) -> tuple[int, ...]:
        """A setting of one whole number for each axis between batch and channels."""
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
    """A value with channels last, as the module holds it."""
    return f"{expression}.movedim(-1, 1)" if rank > 3 else expression


def last(expression: str, rank: int) -> str:
    """A value as the module holds it, with channels last."""
    return f"{expression}.movedim(1, -1)" if rank > 3 else expression


def over_channels(call: Call, layer: str) -> str:
    """A layer that wants channels on axis 1, on the value: sequences are turned there and back."""
    return f"{layer}({call.x}.transpose(1, 2)).transpose(1, 2)" if call.rank == 3 else f"{layer}({call.x})"
