"""Golden outputs, and the comparison of the outputs of a module with them."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.errors import FOREIGN
from frostline.core.inputs import call, map_tensors
from frostline.core.layers import submodule
from frostline.core.restore import undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.utils.hooks import RemovableHandle

TOLERANCE = 1e-5  # relative to the largest output, in float32
_BY_DTYPE = {torch.float16: 2e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Place:
    """A layer of the module whose output is compared instead of the output of the module.

    Attributes:
        name: The qualified name of the layer.
        takes_last_step: Whether only the last step of a recurrent layer is compared.
    """

    name: str
    takes_last_step: bool = False


@dataclass(frozen=True)
class Golden:
    """Inputs, and the outputs of the source network for them.

    Attributes:
        inputs: The inputs in the form that the module takes: a tensor, tuple or mapping.
        outputs: The outputs in the form that the module returns, in order; empty if only samples were passed.
        kind: The origin of the outputs, for the certificate.
        reason: The origin in short, as the reason of pairs that the outputs decide.
        at: The layers of the module that return these outputs, in order; empty for the module as a whole.
        layers: The layers of the source network that return them; empty for the whole network.
    """

    inputs: Any
    outputs: tuple[Tensor, ...]
    kind: str = "golden outputs"
    reason: str = "golden outputs"
    at: tuple[Place, ...] = ()
    layers: tuple[str, ...] = ()

    @property
    def num_samples(self) -> int:
        """The number of samples."""
        return self.outputs[0].shape[0] if self.outputs and self.outputs[0].ndim else 1


def tolerance_of(model: nn.Module) -> float:
    """The largest relative difference that is allowed: larger if the module computes in a half precision."""
    dtypes = {parameter.dtype for parameter in model.parameters()}
    return max((_BY_DTYPE.get(dtype, TOLERANCE) for dtype in dtypes), default=TOLERANCE)


def nearest(model: nn.Module, goldens: Sequence[Golden]) -> tuple[float, Golden]:
    """The smallest error of all golden outputs, and the golden outputs that it belongs to; each input is run once."""
    runs: dict[int, list[Tensor]] = {}
    for golden in goldens:
        if id(golden.inputs) not in runs:
            runs[id(golden.inputs)] = _run(model, golden.inputs, golden.at)
    errors = [difference(runs[id(golden.inputs)], golden.outputs) for golden in goldens]
    best = min(range(len(goldens)), key=errors.__getitem__)
    return errors[best], goldens[best]


def nearest_in_float64(model: nn.Module, goldens: Sequence[Golden]) -> tuple[float, Golden]:
    """As `nearest`, with a copy of the module in float64, so that rounding errors of a deep network do not count.

    Returns:
        The error, and the golden outputs with inputs in the dtype of the module itself.
    """
    wide = [in_float64(golden) for golden in goldens]
    error, found = nearest(copy.deepcopy(model).double(), wide)
    return error, next(golden for golden, other in zip(goldens, wide, strict=True) if other is found)


def in_float64(golden: Golden) -> Golden:
    """The same inputs and outputs, for a module in float64."""
    return replace(golden, inputs=map_tensors(golden.inputs, _widened))


def _widened(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def outputs_of(model: nn.Module, inputs: Any, at: Sequence[Place] = ()) -> list[Tensor] | None:
    """The outputs of the module, or of layers of it, in evaluation mode; None if it cannot be run on these inputs."""
    try:
        return _run(model, inputs, at)
    except FOREIGN:
        return None


def further(inputs: Any, seed: int) -> Any:
    """Other inputs: normal numbers with the same mean and deviation; the same integers in another order."""
    random = torch.Generator().manual_seed(seed)

    def other(value: Tensor) -> Tensor:
        if value.is_floating_point():
            made = torch.randn(value.shape, generator=random, dtype=torch.float64)
            spread = float(value.double().std(correction=0)) or 1.0
            return (made * spread + float(value.double().mean())).to(value)
        order = torch.randperm(value.numel(), generator=random).to(value.device)
        return value.reshape(-1)[order].reshape(value.shape)

    return map_tensors(inputs, other)


def difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest difference, relative to the largest wanted value; infinity for other shapes and for NaN."""
    if len(found) < len(wanted):
        return float("inf")
    worst = 0.0
    for one, other in zip(found, wanted, strict=False):
        if one.shape != other.shape or not bool(torch.isfinite(one).all()):
            return float("inf")
        if other.numel():
            largest = max(float(other.abs().max()), 1e-30)
            apart = float((one.double().cpu() - other.double().cpu()).abs().max()) / largest
            worst = max(worst, apart) if apart == apart else float("inf")
    return worst


def distance(model: nn.Module, goldens: Sequence[Golden]) -> float:
    """The mean squared difference to the nearest golden outputs, for a search: smoother than the largest difference."""
    found = [(_run(model, golden.inputs, golden.at), golden.outputs) for golden in goldens]
    return min((_spread(given, wanted) for given, wanted in found), default=float("inf"))


def _spread(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    if len(found) < len(wanted) or any(one.shape != other.shape for one, other in zip(found, wanted, strict=False)):
        return float("inf")
    apart = sum(
        float((one.double().cpu() - other.double().cpu()).square().mean() / (other.double().square().mean() + 1e-30))
        for one, other in zip(found, wanted, strict=False)
    )
    return apart if math.isfinite(apart) else float("inf")


def run_with_hooks(model: nn.Module, inputs: Any, handles: Iterable[RemovableHandle]) -> Any:
    """The result of the module in evaluation mode; the handles of hooks are removed afterwards."""
    try:
        with undisturbed(model), torch.no_grad():
            return call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


def _run(model: nn.Module, inputs: Any, at: Sequence[Place] = ()) -> list[Tensor]:
    seen: dict[str, list[Any]] = {place.name: [] for place in at}
    handles = [
        submodule(model, name).register_forward_hook(lambda _, __, output, held=held: held.append(output))
        for name, held in seen.items()
    ]
    outputs = run_with_hooks(model, inputs, handles)
    if not at:
        return tensors_in(outputs)
    if any(len(held) != 1 for held in seen.values()):
        return []  # a layer that is not called, or called several times, has no single output
    return [_at(submodule(model, place.name), place, seen[place.name][0]) for place in at]


def _at(layer: nn.Module, place: Place, output: Any) -> Tensor:
    value = tensors_in(output)[0]
    if not place.takes_last_step:
        return value
    return value[:, -1] if getattr(layer, "batch_first", False) else value[-1]


def tensors_in(outputs: Any) -> list[Tensor]:
    """All tensors in the result of a module, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        return [tensor for value in outputs.values() for tensor in tensors_in(value)]
    if isinstance(outputs, (tuple, list)):
        return [tensor for value in outputs for tensor in tensors_in(value)]
    return []
