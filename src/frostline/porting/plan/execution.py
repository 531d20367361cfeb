"""A plan carried out: all values are made and checked first, then exchanged with those of the module."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.core.errors import PortError
from frostline.core.restore import evaluating
from frostline.porting.plan.tied import check_shared, shared_names
from frostline.porting.units.unit import full_name, held, is_parametrized, stored, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from frostline.porting.layouts.layout import Move
    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.units.unit import TargetUnit


def make_values(plan: PortPlan) -> dict[str, Tensor]:
    """The values of every tensor that the plan writes, by name in the module's state dict.

    Each source tensor is read once; the inverse of each layout gives it back to the bit.

    Raises:
        PortError: If a value is not finite, does not fit into the module's dtype, or does not come back.
    """
    made: dict[str, Tensor] = {}
    for step in plan.steps:
        for move in step.moves:
            parts = tuple(step.source.leaves[leaf].load() for leaf in move.sources)
            like = step.target.tensors[move.target]
            value = move.forward(parts, like.detach()).contiguous()
            name = full_name(step.target, move.target)
            _check_own_memory(plan, name, stored(step.target, move.target))
            if move.target == "running_var" and any(layout.slack for layout in move.layouts):
                _check_root(plan, name, value)
            made[name] = _converted(plan, name, value, like, is_variance=move.target == "running_var")
            _check_inverse(plan, name, move, parts, move.inverse(value, parts))
    return made


def carry_out(plan: PortPlan, model: nn.Module) -> Callable[[], None]:
    """Write the values of a plan into the module.

    Args:
        plan: With nothing left open.
        model: The module of the plan.

    Returns:
        A function that puts back what the module held, to the bit.

    Raises:
        PortError: As `make_values`, or if a layer does not hold what is written into it; nothing is changed then.
    """
    values = make_values(plan)
    shared = shared_names(plan)
    kept: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def undo() -> None:
        for tensor, before in reversed(kept):
            tensor.copy_(before)

    with evaluating(model):
        try:
            for step in plan.steps:
                for move in step.moves:
                    name = full_name(step.target, move.target)
                    value = values[name] if name in shared else values.pop(name)
                    kept += [(one, one.detach().clone()) for one in stored(step.target, move.target)]
                    write(step.target, move.target, value.to(kept[-1][0].device))
                    _check_held(plan, step.target, move.target, value)
            check_shared(plan, values)
        except BaseException:
            undo()
            raise
    return undo


def remember(targets: Iterable[TargetUnit]) -> Callable[[], None]:
    """What layers hold now.

    Returns:
        A function that puts it back, to the bit.
    """
    kept = [
        (tensor, tensor.detach().clone())
        for target in targets
        for own in target.tensors
        for tensor in stored(target, own)
    ]

    @torch.no_grad()
    def undo() -> None:
        for tensor, before in kept:
            tensor.copy_(before)

    return undo


def _check_held(plan: PortPlan, target: TargetUnit, own: str, value: Tensor) -> None:
    """What is written through a parametrization may be held otherwise, as a spectral norm does.

    Raises:
        PortError: If it is.
    """
    if not is_parametrized(target, own):
        return
    now = held(target, own).detach()
    if not torch.allclose(now, value.to(now), rtol=1e-5, atol=1e-7):
        raise PortError(
            what="The layer does not hold the weight that is written into it: it is parametrized.",
            where=f"{plan.path}, {full_name(target, own)}",
            received=f"a difference of up to {float((now - value.to(now)).abs().max()):.1e}",
            do="port first, parametrize then: torch.nn.utils.parametrize.remove_parametrizations(layer, name).",
        )  # fmt: skip


def digest_of(tensors: Iterable[Tensor]) -> str:
    """The SHA-256 of the bytes of tensors, in order."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _check_root(plan: PortPlan, name: str, value: Tensor) -> None:
    """A file that stores sigma, the root of variance and epsilon, may divide by less than the module's own epsilon.

    Raises:
        PortError: If it does.
    """
    if bool((value < 0).any()):
        raise PortError(
            what=f"The file divides by less than the epsilon of the module allows: {name!r} would be negative.",
            where=plan.path, received=f"sigma squared minus epsilon is {float(value.min()):.3g} at least, and negative "
            f"for {int((value < 0).sum())} channels",
            do="build the BatchNorm with a smaller eps, such as eps=1e-12: sigma holds the file's own.",
        )  # fmt: skip


def _check_inverse(
    plan: PortPlan, name: str, move: Move, parts: tuple[Tensor, ...], back: tuple[Tensor, ...]
) -> None:  # fmt: skip
    for layout, part, other in zip(move.layouts, parts, back, strict=False):
        is_same = part.shape == other.shape and torch.equal(_bits(part), _bits(other))
        has_slack = layout.slack and part.shape == other.shape
        if not is_same and not (has_slack and bool(((part - other).abs() <= layout.slack * part.abs()).all())):
            raise PortError(
                what="A layout is not the inverse of itself: the source's bytes do not come back.",
                where=f"{plan.path}, {name}", received=f"{tuple(part.shape)}, {tuple(other.shape)}",
                do="this is a fault of Frostline: please report the file's format and the layer's type.",
            )  # fmt: skip


def _is_finite(value: Tensor) -> bool:
    """A sum of float32 in float64 is finite where all of its terms are, and is three times as fast to compute."""
    if value.is_floating_point() and bool(torch.isfinite(value.sum(dtype=torch.float64))):
        return True
    return bool(torch.isfinite(value).all())


def _converted(plan: PortPlan, name: str, value: Tensor, like: Tensor, *, is_variance: bool) -> Tensor:
    """The value in the dtype of the module.

    Raises:
        PortError: If it is not finite, or means something else there: overflow, a whole number that is cut, a variance
            that becomes zero.
    """
    made = value.to(like.dtype)
    if not _is_finite(value) or (is_variance and bool((value < 0).any())):
        raise PortError(
            what=f"The weights for {name!r} are NaN, infinite, or a negative variance.", where=plan.path,
            received=f"{int((~torch.isfinite(value)).sum())} of {value.numel()} values are not finite; the smallest is "
            f"{float(value.float().nan_to_num().min()):.3g}",
            do="take a checkpoint from before the training diverged; the module is unchanged.",
        )  # fmt: skip
    if made is value:
        return made
    is_whole = not like.dtype.is_floating_point and not like.dtype.is_complex
    lost = made.to(value.dtype) != value if is_whole else ~torch.isfinite(made)
    if is_variance:
        lost |= (made == 0) & (value != 0)
    if bool(lost.any()):
        raise PortError(
            what=f"The weights for {name!r} do not fit into {str(like.dtype).removeprefix('torch.')}.",
            where=plan.path,
            received=f"{int(lost.sum())} of {value.numel()} values, such as {value[lost][0].item():.6g}",
            do="port into the module in float32 (`model.float()`), then convert it." if not is_whole
            else "give the module a tensor of the file's dtype.",
        )  # fmt: skip
    return made


def _check_own_memory(plan: PortPlan, name: str, tensors: Iterable[Tensor]) -> None:
    """An expanded tensor has one number in many places, and cannot be written.

    Raises:
        PortError: If one is.
    """
    for tensor in tensors:
        if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
            raise PortError(
                what=f"{name!r} cannot be written: it is an expanded tensor, one number in many places.",
                where=plan.path, received=f"shape {tuple(tensor.shape)}, strides {tensor.stride()}",
                do="give the layer memory of its own: nn.Parameter(tensor.clone()).",
            )  # fmt: skip
