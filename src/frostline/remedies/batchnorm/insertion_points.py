"""Where a BatchNorm can go, found in one run of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from frostline.core.activations import FUNCTIONS, is_activation
from frostline.remedies.surgery import chosen_modules, left_alone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from frostline.core.tracing import Step, Trace

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
LAYERS = (nn.Linear, *CONVOLUTIONS)

_THROUGH_MODULES = ("Pool", "Dropout", "Flatten", "Unflatten", "Identity", "DropPath", "ZeroPad", "Upsample")
_THROUGH_FUNCTIONS = (
    "pool", "dropout", "flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "contiguous",
    "to", "float", "clone", "interpolate", "pad", "boolean_dispatch",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A layer that can take a BatchNorm.

    Attributes:
        name: Its qualified name.
        layer: The layer.
        axis: Where its output has its channels: -1 for linear layers, else 1.
        dims: Axes of its output.
        channels: Its output channels.
    """

    name: str
    layer: nn.Module
    axis: int
    dims: int
    channels: int

    @property
    def weight(self) -> nn.Parameter:
        """A parameter whose dtype, device and group new ones take; the weight, unless it is parametrized."""
        weight = self.layer._parameters.get("weight")
        return weight if weight is not None else next(self.layer.parameters())


def find_places(
    model: nn.Module, traced: Trace, where: Iterable[str] | str | None
) -> tuple[list[Place], list[tuple[str, str]]]:
    """(places in the order of execution, (layer, reason) of the layers that were left alone).

    Raises:
        LayerNotFound: If a name or glob fits nothing.
    """
    inside, named = chosen_modules(model, where)
    layers: dict[str, nn.Module] = {name: module for name, module in inside.items() if isinstance(module, LAYERS)}
    frozen = left_alone(model, layers, named)
    blocks = _transformer_blocks(model)
    places: list[tuple[int, Place]] = []
    notes = [
        (name, "is not a linear or convolution layer")
        for name, module in inside.items()
        if id(module) in named and not any(isinstance(part, LAYERS) for part in module.modules())
    ]
    notes += [
        (name, f"a {type(module).__name__} is not treated")
        for name, module in inside.items()
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention))
    ]
    for name, module in layers.items():
        is_named = id(module) in named
        calls = traced.calls(module)
        if name in frozen:
            notes.append((name, "frozen, left alone; name it in where= to treat it"))
        elif not is_named and id(module) in blocks:
            notes.append((name, "part of a transformer block, left alone"))
        elif len(calls) != 1:
            times = f"called {len(calls)} times in one pass" if calls else "not called when the model runs"
            notes.append((name, times))
        elif (reason := _reason_against(module, calls[0], traced, is_named=is_named)) is not None:
            notes.append((name, reason))
        else:
            shape, is_linear = calls[0].shapes[0], isinstance(module, nn.Linear)
            place = Place(name, module, -1 if is_linear else 1, len(shape), shape[-1 if is_linear else 1])
            places.append((calls[0].at, place))
    return [place for _, place in sorted(places, key=lambda pair: pair[0])], notes


def following(step: Step, traced: Trace) -> list[Step]:
    """The first steps after a layer that do more than pool, reshape or drop."""
    return [found for found in traced.after(step, stop=lambda s: not _passes(s)) if not _passes(found)]


def is_norm(step: Step) -> bool:
    """True for a norm of any kind, as a module or a function."""
    return "norm" in (type(step.module).__name__ if step.module is not None else step.name).lower()


def is_activating(step: Step) -> bool:
    """True for an activation, as a module or a function."""
    return is_activation(step.module) if step.module is not None else step.name in FUNCTIONS


def _passes(step: Step) -> bool:
    if step.module is not None:
        return any(kind in type(step.module).__name__ for kind in _THROUGH_MODULES)
    return any(part in step.name for part in _THROUGH_FUNCTIONS[:3]) or step.name in _THROUGH_FUNCTIONS


def _reason_against(module: nn.Module, step: Step, traced: Trace, *, is_named: bool) -> str | None:
    own = next(module.parameters())
    if not own.is_floating_point():
        return f"has {str(own.dtype).removeprefix('torch.')} weights, which BatchNorm does not take"
    dims = len(step.shapes[0])
    if dims < 2 or (isinstance(module, CONVOLUTIONS) and dims != _dims_of(module)):
        return "its output has no batch axis"
    if not any(later.has_weights for later in traced.after(step, stop=lambda _: False)):
        return "an output layer"
    first = following(step, traced)
    if any(is_norm(later) for later in first):
        return "a norm follows already"
    if not is_named and not any(is_activating(later) for later in first):
        return "no activation follows directly; name it in where= to treat it"
    return None


def _dims_of(convolution: nn.Module) -> int:
    """Axes of a batched output of a convolution."""
    kernel = convolution.kernel_size
    return len(kernel) + 2 if isinstance(kernel, tuple) else 0


def _transformer_blocks(model: nn.Module) -> set[int]:
    """Ids of all that lies in a module, other than the model, which holds attention directly."""
    found: set[int] = set()
    for module in model.modules():
        kinds = [type(child).__name__.lower() for child in module.children()]
        if module is not model and any("attention" in kind or "attn" in kind for kind in kinds):
            found |= {id(part) for part in module.modules()}
        if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.MultiheadAttention)):
            found |= {id(part) for part in module.modules()}
    return found
