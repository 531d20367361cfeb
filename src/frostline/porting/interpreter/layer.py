"""One call of one layer: its settings, its weights in float64, and its input values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


MOST_VALUES = 1 << 26  # in one tensor: 512 MB in float64


class NotInterpretedError(Exception):
    """A layer or setting whose meaning is not known for certain; the text names it."""


Mask = Tensor | NotInterpretedError | None


@dataclass(frozen=True)
class Layer:
    """A layer of a Keras network, called on values.

    Attributes:
        name: The name of the layer in the network.
        kind: The name of its class.
        config: Its settings.
        inputs: Its inputs, in order; channels last, in float64 or, for embeddings, integers.
        weights: By leaf: a function that reads the weight.
        version: The major version of Keras that wrote the file: 2 or 3; 0 if unknown.
        masks: For each input the mask of steps that count; None if all do, an error if the mask is not known.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    weights: Mapping[str, Callable[[], Tensor]]
    version: int = 0
    masks: tuple[Mask, ...] = ()

    def refuse(self, why: str = "") -> NoReturn:
        """Raise the error for a layer that is not interpreted."""
        raise NotInterpretedError(f"not interpreted: {self.name} ({self.kind})" + (f": {why}" if why else ""))

    def input(self) -> Tensor:
        """Its only input; a layer with several inputs is refused."""
        if len(self.inputs) != 1:
            self.refuse(f"{len(self.inputs)} inputs")
        return self.inputs[0]

    @property
    def mask(self) -> Tensor | None:
        """The mask of its first input, true at steps that count; None if all do."""
        return self.mask_of(0)

    def mask_of(self, slot: int) -> Tensor | None:
        """The mask of an input, true at steps that count; None if all do."""
        given = self.masks[slot] if slot < len(self.masks) else None
        if isinstance(given, NotInterpretedError):
            raise given
        return given

    def setting(self, name: str, default: Any = None) -> Any:
        """A setting; the default is the value for files of versions that did not have the setting."""
        return self.config.get(name, default)

    def needed(self, name: str) -> Any:
        """A required setting."""
        if name not in self.config:
            self.refuse(f"no setting {name!r}")
        return self.config[name]

    def allow(self, **values: Any) -> None:
        """Refuse settings with other values than these, the only ones that are interpreted."""
        for name, value in values.items():
            given = self.config.get(name, value)
            if given != value:
                self.refuse(f"{name}={given!r}")

    def weight(self, leaf: str) -> Tensor:
        """A weight, in float64."""
        if leaf not in self.weights:
            self.refuse(f"no weight {leaf!r}")
        return self.weights[leaf]().to(torch.float64)

    def bounded(self, *sizes: int) -> None:
        """Refuse values larger than those of any network, before they are allocated: a file may state any size."""
        if math.prod(sizes) > MOST_VALUES:
            self.refuse(f"values of the shape {sizes}")

    def bias(self) -> Tensor | None:
        """The bias, if it has one."""
        return self.weight("bias") if self.setting("use_bias", True) else None

    def within(self, prefix: str, config: Mapping[str, Any], kind: str) -> Layer:
        """A layer inside this layer, with the same inputs."""
        own = {leaf.removeprefix(prefix): load for leaf, load in self.weights.items() if leaf.startswith(prefix)}
        return replace(self, kind=kind, config=config, weights=own)


def inner(layer: Layer, name: str) -> tuple[str, Mapping[str, Any]]:
    """The class and the settings of a layer that is a setting of another layer."""
    given = layer.needed(name)
    if not isinstance(given, dict) or not isinstance(given.get("config"), dict):
        layer.refuse(f"{name} is no layer")
    return str(given.get("class_name")), given["config"]


def as_sizes(layer: Layer, value: Any, axes: int) -> tuple[int, ...]:
    """One integer for each axis; a single number is used for all axes."""
    sizes = [value] * axes if isinstance(value, int) else value
    if not isinstance(sizes, (list, tuple)) or len(sizes) != axes or not all(isinstance(size, int) for size in sizes):
        layer.refuse(f"sizes {value!r} for {axes} axes")
    return tuple(sizes)
