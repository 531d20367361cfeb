"""The execution of a plan: each tensor is read, converted, checked and written; the previous values can be restored."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.core.errors import PortError
from frostline.core.restore import evaluating
from frostline.porting.plan.tied import check_shared, shared_names
from frostline.porting.units.unit import current_value, full_name, is_parametrized, stored_tensors, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from torch import nn

    from frostline.porting.layouts.layout import Move
    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.plan.step import Step
    from frostline.porting.units.unit import TargetUnit

_NUM_DIGESTS = 4  # threads
_LARGE_BYTES = 1 << 18  # of smaller tensors a digest takes less time than a thread
_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32}  # integer dtypes by the size of an element in bytes


def carry_out(plan: PortPlan, model: nn.Module) -> Callable[[], None]:
    """Write the tensors of a plan into the module, one after the other.

    Args:
        plan: A plan without open groups.
        model: The module of the plan.

    Returns:
        A function that restores the previous values of the module, to the bit.

    Raises:
        PortError: As `value_of` and `put`; the module is unchanged then.
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
                    # The copy stays, the value is freed: allocated in the other order, every value would leave a hole
                    # in memory.
                    kept += [
                        (one, one.detach().clone())
                        for one in stored_tensors(step.target, move.target)
                        if not _is_expanded(one)
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
    """Write the value of one move; the previous value is lost.

    Raises:
        PortError: If the layer has another value afterwards, because a parametrization changes it.
    """
    write(step.target, move.target, value)
    _check_written(plan, step.target, move.target, value)


def value_of(plan: PortPlan, step: Step, move: Move) -> Tensor:
    """The value that a move writes into the module, in the module's dtype, after a check of its inverse.

    Args:
        plan: The plan, for error texts.
        step: The step of the plan.
        move: The move of the step; its source tensors are read once.

    Raises:
        PortError: If a value is not finite, does not fit into the module's dtype, or the inverse of its layout does not
            reproduce the source tensors.
    """
    parts = tuple(step.source.leaves[leaf].load() for leaf in move.sources)
    like = step.target.tensors[move.target]
    value = move.forward(parts, like.detach()).contiguous()
    name = full_name(step.target, move.target)
    _check_own_memory(plan, name, stored_tensors(step.target, move.target))
    if move.target == "running_var" and any(layout.slack for layout in move.layouts):
        _check_root(plan, name, value)
    made = _converted(plan, name, value, like, is_variance=move.target == "running_var")
    _check_inverse(plan, name, move, parts, move.inverse(value, parts))
    return made


def remember(targets: Iterable[TargetUnit]) -> Callable[[], None]:
    """Copy the tensors of layers.

    Returns:
        A function that restores them, to the bit.
    """
    kept = [
        (tensor, tensor.detach().clone())
        for target in targets
        for own in target.tensors
        for tensor in stored_tensors(target, own)
        if not _is_expanded(tensor)
    ]

    @torch.no_grad()
    def undo() -> None:
        for tensor, before in kept:
            tensor.copy_(before)

    return undo


def _check_written(plan: PortPlan, target: TargetUnit, own: str, value: Tensor) -> None:
    """Check that a parametrization, such as a spectral norm, returns the value that was written through it.

    Raises:
        PortError: If it returns another value.
    """
    if not is_parametrized(target, own):
        return
    now = current_value(target, own).detach()
    if not torch.allclose(now, value.to(now), rtol=1e-5, atol=1e-7):
        raise PortError(
            what="The parametrization of a layer changes the weight that was written into it.",
            where=f"{plan.path}, {full_name(target, own)}",
            received=f"a difference of up to {float((now - value.to(now)).abs().max()):.1e}",
            do="remove the parametrization (torch.nn.utils.parametrize.remove_parametrizations(layer, name)), port, "
            "and apply it again; the module is unchanged.",
        )  # fmt: skip


def written_digests(plan: PortPlan) -> dict[str, str]:
    """The SHA-256 of each written tensor of the module, by name in its state dict.

    Large tensors are digested in threads: hashlib releases Python's lock.
    """
    found: dict[str, Future[str] | str] = {}
    with ThreadPoolExecutor(max_workers=_NUM_DIGESTS) as workers:
        for step in plan.steps:
            for move in step.moves:
                name, tensor = full_name(step.target, move.target), current_value(step.target, move.target)
                is_small = tensor.nbytes < _LARGE_BYTES
                # A parametrization computes a new tensor: one at a time, to bound the memory.
                is_alone = is_small or is_parametrized(step.target, move.target)
                found[name] = digest_of(tensor) if is_alone else workers.submit(digest_of, tensor)
    return {name: one if isinstance(one, str) else one.result() for name, one in found.items()}


def digest_of(tensor: Tensor) -> str:
    """The SHA-256 of the bytes of a tensor."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _bits(tensor: Tensor) -> Tensor:
    """The elements as integers, to compare their bits: NaN equals itself, and 0.0 differs from -0.0."""
    return tensor.view(_WHOLE.get(tensor.dtype.itemsize, torch.int64))


def _check_root(plan: PortPlan, name: str, value: Tensor) -> None:
    """Check a variance that was computed from sigma, the square root of variance plus epsilon.

    Raises:
        PortError: If sigma is smaller than the square root of the module's epsilon: the variance would be negative.
    """
    if bool((value < 0).any()):
        raise PortError(
            what=f"The epsilon of the module is larger than the file allows: {name!r} would be negative.",
            where=plan.path, received=f"sigma squared minus epsilon is negative for {int((value < 0).sum())} channels; "
            f"the smallest is {float(value.min()):.3g}",
            do="build the BatchNorm with a smaller eps, such as eps=1e-12: sigma contains the epsilon of the file.",
        )  # fmt: skip


def _check_inverse(
    plan: PortPlan, name: str, move: Move, parts: tuple[Tensor, ...], back: tuple[Tensor, ...]
) -> None:  # fmt: skip
    for layout, part, other in zip(move.layouts, parts, back, strict=False):
        if not _is_same(part, other) and not _is_near(part, other, layout.slack):
            raise PortError(
                what="The inverse of a layout does not reproduce the tensor of the file.",
                where=f"{plan.path}, {name}", received=f"the layout {layout.name!r} of a tensor of shape "
                f"{tuple(part.shape)}; the inverse has the shape {tuple(other.shape)}",
                do="report this fault of Frostline, with the format of the file and the type of the layer; the module "
                "is unchanged.",
            )  # fmt: skip


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(_bits(one), _bits(other))


def _is_near(part: Tensor, other: Tensor, slack: float) -> bool:
    return slack > 0 and part.shape == other.shape and bool(((part - other).abs() <= slack * part.abs()).all())


def _is_finite(value: Tensor) -> bool:
    """Whether all values are finite.

    The smallest and the largest value are NaN if any value is; to find them takes one pass and no memory.
    """
    if value.dtype in (torch.float32, torch.float64) and value.numel():
        return bool(torch.isfinite(torch.stack(torch.aminmax(value))).all())
    return bool(torch.isfinite(value).all())


def _converted(plan: PortPlan, name: str, value: Tensor, like: Tensor, *, is_variance: bool) -> Tensor:
    """The value in the dtype of the module.

    Raises:
        PortError: If a value is not finite, or the conversion changes its meaning: overflow, a lost fraction or
            imaginary part, a variance that becomes zero.
    """
    is_cut = value.is_complex() and not like.dtype.is_complex
    made = (value.real if is_cut else value).to(like.dtype)
    if not _is_finite(value) or (is_variance and bool((value.real < 0).any())):
        raise PortError(
            what=f"The weights for {name!r} are NaN, infinite, or a negative variance.", where=plan.path,
            received=f"{int((~torch.isfinite(value)).sum())} of {value.numel()} values are not finite; the smallest is "
            f"{float(value.real.float().nan_to_num().min()):.3g}",
            do="port a checkpoint from before the training diverged; the module is unchanged.",
        )  # fmt: skip
    if made is value:
        return made
    is_whole = not like.dtype.is_floating_point and not like.dtype.is_complex
    inexact = made.to(value.dtype) != value if is_whole or is_cut else ~torch.isfinite(made)
    if is_variance:
        inexact |= (made == 0) & (value != 0)
    if bool(inexact.any()):
        raise PortError(
            what=f"The weights for {name!r} do not fit into {str(like.dtype).removeprefix('torch.')}.",
            where=plan.path,
            received=f"{int(inexact.sum())} of {value.numel()} values, such as {value[inexact][0].item():.6g}",
            do="port into the module in float32 (`model.float()`), then convert it." if not is_whole and not is_cut
            else f"build the module with a tensor of the dtype {str(value.dtype).removeprefix('torch.')} there.",
        )  # fmt: skip
    return made


def _is_expanded(tensor: Tensor) -> bool:
    """Whether several elements share one number in memory; such a tensor is never written or restored."""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _check_own_memory(plan: PortPlan, name: str, tensors: Iterable[Tensor]) -> None:
    """Check that every element of the tensors has memory of its own.

    Raises:
        PortError: If a tensor is expanded.
    """
    for tensor in tensors:
        if _is_expanded(tensor):
            raise PortError(
                what=f"{name!r} cannot be written: it is an expanded tensor, whose elements share memory.",
                where=plan.path, received=f"shape {tuple(tensor.shape)}, strides {tensor.stride()}",
                do="give the layer memory of its own: nn.Parameter(tensor.clone()).",
            )  # fmt: skip
