"""A plan carried out: each value is made and checked, then exchanged with that of the module, which can be put back."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.core.errors import PortError
from frostline.core.restore import evaluating
from frostline.porting.plan.tied import check_shared, shared_names
from frostline.porting.units.unit import full_name, held, is_parametrized, stored, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from torch import nn

    from frostline.porting.layouts.layout import Move
    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.plan.steps import Step
    from frostline.porting.units.unit import TargetUnit

_NUM_DIGESTS = 4  # at once
_LARGE_BYTES = 1 << 18  # a thread costs more than the digest of less
_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32}  # by the bytes of an element


def carry_out(plan: PortPlan, model: nn.Module) -> Callable[[], None]:
    """Write the values of a plan into the module: one tensor after the other is read, checked, and exchanged.

    Args:
        plan: With nothing left open.
        model: The module of the plan.

    Returns:
        A function that puts back what the module held, to the bit.

    Raises:
        PortError: As `value_of`, or if a layer does not hold what is written into it; nothing is changed then.
    """
    shared = shared_names(plan)
    values: dict[str, Tensor] = {}
    kept: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def undo() -> None:
        for tensor, before in reversed(kept):
            tensor.copy_(before)

    with evaluating(model):
        try:
            for step in plan.steps:
                for move in step.moves:
                    # What stays is allocated before what goes, or the memory of each value is left as a hole.
                    kept += [
                        (one, one.detach().clone()) for one in stored(step.target, move.target) if not _is_expanded(one)
                    ]
                    value = value_of(plan, step, move)
                    put(plan, step, move, value)
                    if (name := full_name(step.target, move.target)) in shared:
                        values[name] = value
            check_shared(plan, values)
        except BaseException:
            undo()
            raise
    return undo


def put(plan: PortPlan, step: Step, move: Move, value: Tensor) -> None:
    """Write the value of one move; nothing is kept of what was there.

    Raises:
        PortError: If the layer does not hold then what is written.
    """
    write(step.target, move.target, value)
    _check_held(plan, step.target, move.target, value)


def value_of(plan: PortPlan, step: Step, move: Move) -> Tensor:
    """What a move writes into the module, in the module's dtype; the inverse of each layout gives the sources back.

    Args:
        plan: For errors.
        step: Of the plan.
        move: Of the step; its source tensors are read once.

    Raises:
        PortError: If a value is not finite, does not fit into the module's dtype, or does not come back.
    """
    parts = tuple(step.source.leaves[leaf].load() for leaf in move.sources)
    like = step.target.tensors[move.target]
    value = move.forward(parts, like.detach()).contiguous()
    name = full_name(step.target, move.target)
    _check_own_memory(plan, name, stored(step.target, move.target))
    if move.target == "running_var" and any(layout.slack for layout in move.layouts):
        _check_root(plan, name, value)
    made = _converted(plan, name, value, like, is_variance=move.target == "running_var")
    _check_inverse(plan, name, move, parts, move.inverse(value, parts))
    return made


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
        if not _is_expanded(tensor)
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


def held_digests(plan: PortPlan) -> dict[str, str]:
    """The SHA-256 of what the module holds now, by name in its state dict.

    Large tensors are digested beside each other: SHA-256 runs beside Python.
    """
    found: dict[str, Future[str] | str] = {}
    with ThreadPoolExecutor(max_workers=_NUM_DIGESTS) as workers:
        for step in plan.steps:
            for move in step.moves:
                name, tensor = full_name(step.target, move.target), held(step.target, move.target)
                is_small = tensor.nbytes < _LARGE_BYTES
                # What a parametrization computes is memory of its own: one at a time.
                is_alone = is_small or is_parametrized(step.target, move.target)
                found[name] = digest_of(tensor) if is_alone else workers.submit(digest_of, tensor)
    return {name: one if isinstance(one, str) else one.result() for name, one in found.items()}


def digest_of(tensor: Tensor) -> str:
    """The SHA-256 of the bytes of a tensor."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _bits(tensor: Tensor) -> Tensor:
    """The elements as whole numbers, which compare by their bits: NaN is equal to itself, and 0.0 is not -0.0."""
    return tensor.view(_WHOLE.get(tensor.dtype.itemsize, torch.int64))


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
        if not _is_same(part, other) and not _is_near(part, other, layout.slack):
            raise PortError(
                what="A layout is not the inverse of itself: the source's bytes do not come back.",
                where=f"{plan.path}, {name}", received=f"{tuple(part.shape)}, {tuple(other.shape)}",
                do="this is a fault of Frostline: please report the file's format and the layer's type.",
            )  # fmt: skip


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(_bits(one), _bits(other))


def _is_near(part: Tensor, other: Tensor, slack: float) -> bool:
    return slack > 0 and part.shape == other.shape and bool(((part - other).abs() <= slack * part.abs()).all())


def _is_finite(value: Tensor) -> bool:
    """Whether all values are finite: smallest and largest are NaN if any is, and take one pass without memory."""
    if value.dtype in (torch.float32, torch.float64) and value.numel():
        return bool(torch.isfinite(torch.stack(torch.aminmax(value))).all())
    return bool(torch.isfinite(value).all())


def _converted(plan: PortPlan, name: str, value: Tensor, like: Tensor, *, is_variance: bool) -> Tensor:
    """The value in the dtype of the module.

    Raises:
        PortError: If it is not finite, or means something else there: overflow, a whole number that is cut, a variance
            that becomes zero.
    """
    is_cut = value.is_complex() and not like.dtype.is_complex
    made = (value.real if is_cut else value).to(like.dtype)
    if not _is_finite(value) or (is_variance and bool((value.real < 0).any())):
        raise PortError(
            what=f"The weights for {name!r} are NaN, infinite, or a negative variance.", where=plan.path,
            received=f"{int((~torch.isfinite(value)).sum())} of {value.numel()} values are not finite; the smallest is "
            f"{float(value.real.float().nan_to_num().min()):.3g}",
            do="take a checkpoint from before the training diverged; the module is unchanged.",
        )  # fmt: skip
    if made is value:
        return made
    is_whole = not like.dtype.is_floating_point and not like.dtype.is_complex
    lost = made.to(value.dtype) != value if is_whole or is_cut else ~torch.isfinite(made)
    if is_variance:
        lost |= (made == 0) & (value != 0)
    if bool(lost.any()):
        raise PortError(
            what=f"The weights for {name!r} do not fit into {str(like.dtype).removeprefix('torch.')}.",
            where=plan.path,
            received=f"{int(lost.sum())} of {value.numel()} values, such as {value[lost][0].item():.6g}",
            do="port into the module in float32 (`model.float()`), then convert it." if not is_whole and not is_cut
            else "give the module a tensor of the file's dtype.",
        )  # fmt: skip
    return made


def _is_expanded(tensor: Tensor) -> bool:
    """Whether one number is in many places; such a tensor is never written, nor put back."""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _check_own_memory(plan: PortPlan, name: str, tensors: Iterable[Tensor]) -> None:
    """An expanded tensor has one number in many places, and cannot be written.

    Raises:
        PortError: If one is.
    """
    for tensor in tensors:
        if _is_expanded(tensor):
            raise PortError(
                what=f"{name!r} cannot be written: it is an expanded tensor, one number in many places.",
                where=plan.path, received=f"shape {tuple(tensor.shape)}, strides {tensor.stride()}",
                do="give the layer memory of its own: nn.Parameter(tensor.clone()).",
            )  # fmt: skip
