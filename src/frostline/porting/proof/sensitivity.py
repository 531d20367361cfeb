"""The layers that compared outputs hardly depend on, so that the comparison proves little about their weights."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch

from frostline.core.errors import FOREIGN
from frostline.core.inputs import call, leaves, map_tensors
from frostline.porting.graphs.target_graph import undisturbed
from frostline.porting.proof.module_outputs import tensors_in
from frostline.porting.units.unit import stored_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.proof.module_outputs import Golden

_CHANGE = 0.1  # relative change of weights that has to change the outputs by more than the tolerance


def silent_layers(plan: PortPlan, model: nn.Module, golden: Golden, tolerance: float) -> tuple[str, ...]:
    """Layers whose weights could change by a tenth while the outputs stay within the tolerance.

    This is measured to first order, by one gradient of a random projection of the outputs. Running statistics have no
    gradient and are not considered.

    Args:
        plan: The plan that was carried out.
        model: The module with the ported weights.
        golden: The golden outputs of the comparison.
        tolerance: The tolerance of the comparison.

    Returns:
        Names of layers; empty if the module gives no gradients.
    """
    held = {
        step.target.name: [tensor for own in step.target.tensors for tensor in stored_tensors(step.target, own)
                           if tensor.is_leaf and tensor.is_floating_point() and isinstance(tensor, torch.nn.Parameter)]
        for step in plan.steps
    }  # fmt: skip
    weights = list({id(tensor): tensor for tensors in held.values() for tensor in tensors}.values())
    found = _gradients(model, golden, weights)
    if found is None:
        return ()
    effects = {id(weight): effect for weight, effect in zip(weights, found, strict=True)}
    return tuple(
        name for name, tensors in held.items()
        if tensors and max(effects[id(tensor)] for tensor in tensors) * _CHANGE <= tolerance
    )  # fmt: skip


def _gradients(model: nn.Module, golden: Golden, weights: Sequence[Tensor]) -> list[float] | None:
    """By weight: the relative change of the outputs, to first order, for a change of the weight by its own size."""
    # GroupNorm of PyTorch 2.13 crashes on channels-last values if their own gradient is not needed: all gradients are
    # requested. Convolutions of 1 x 1 with strides crash on any channels-last values: inputs are made contiguous.
    known = {id(weight) for weight in weights}
    others = [one for one in model.parameters() if one.is_leaf and one.is_floating_point() and id(one) not in known]
    variables = [*weights, *others]
    before = [one.requires_grad for one in variables]
    inputs = map_tensors(golden.inputs, lambda one: one.detach().requires_grad_(one.is_floating_point()))
    given = [one for one in leaves(inputs).values() if one.requires_grad]
    sizes: dict[int, float] = {}
    handles: list[RemovableHandle] = []
    try:
        for one in variables:
            one.requires_grad_(True)
            handles.append(one.register_hook(_measured(sizes, one)))
        with undisturbed(model), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = tensors_in(call(model, map_tensors(inputs, _packed)))[: len(golden.outputs)]
            total = _projected(outputs)
            if total is None:
                return None
            torch.autograd.grad(total, [*variables, *given], allow_unused=True)
    except FOREIGN:
        return None
    finally:
        for handle in handles:
            handle.remove()
        for one, was in zip(variables, before, strict=True):
            one.requires_grad_(was)
    if not known & sizes.keys():  # the forward method detaches its values
        return None
    return [sizes.get(id(weight), 0.0) * _mean(weight) for weight in weights]


def _measured(sizes: dict[int, float], weight: Tensor) -> Callable[[Tensor], Tensor]:
    """A hook that notes the size of a gradient, and leaves one number in its place: all together take much memory.

    That number is allocated here: behind a gradient it would keep the next one from taking the same memory.
    """
    zero = torch.zeros((), dtype=weight.dtype, device=weight.device)

    def measure(gradient: Tensor) -> Tensor:
        sizes[id(weight)] = _size(gradient)
        return zero.expand_as(gradient)

    return measure


def _packed(value: Tensor) -> Tensor:
    return value.clone(memory_format=torch.contiguous_format)


def _projected(outputs: list[Tensor]) -> Tensor | None:
    random = torch.Generator().manual_seed(0)
    parts = [
        (one * torch.randn(one.shape, generator=random).to(one)).sum() / max(float(one.detach().abs().max()), 1e-30)
        for one in outputs
        if one.requires_grad and one.is_floating_point() and one.numel()
    ]
    return torch.stack(parts).sum() if parts else None


def _size(values: Tensor) -> float:
    size = float(torch.linalg.vector_norm(values.detach(), dtype=torch.float64))
    return size if math.isfinite(size) else float("inf")


def _mean(weight: Tensor) -> float:
    return max(_size(weight) / math.sqrt(weight.numel()), 1e-3) if weight.numel() else 0.0
