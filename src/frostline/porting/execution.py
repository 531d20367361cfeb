"""A plan carried out: all values are made and checked first, then exchanged with those of the module."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.core.errors import PortError
from frostline.porting.units import full_name, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from frostline.porting.plan import PortPlan


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
            _check_inverse(plan, name, parts, move.inverse(value, parts))
            made[name] = _converted(plan, name, value, like, is_variance=move.target == "running_var")
    return made


def exchange(plan: PortPlan, values: dict[str, Tensor]) -> None:
    """Write the values into the module, and keep what it held in `values`; the same call takes it back."""
    for step in plan.steps:
        for move in step.moves:
            name = full_name(step.target, move.target)
            before = step.target.tensors[move.target].detach().clone()
            write(step.target, move.target, values[name].to(before.device))
            values[name] = before


def digest_of(tensors: Iterable[Tensor]) -> str:
    """The SHA-256 of the bytes of tensors, in order."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return whole.hexdigest()


def _check_inverse(plan: PortPlan, name: str, parts: tuple[Tensor, ...], back: tuple[Tensor, ...]) -> None:
    for part, other in zip(parts, back, strict=False):
        if part.shape != other.shape or digest_of([part]) != digest_of([other]):
            raise PortError(
                what="A layout is not the inverse of itself: the source's bytes do not come back.",
                where=f"{plan.path}, {name}", received=f"{tuple(part.shape)}, {tuple(other.shape)}",
                do="this is a fault of Frostline: please report the file's format and the layer's type.",
            )  # fmt: skip


def _converted(plan: PortPlan, name: str, value: Tensor, like: Tensor, *, is_variance: bool) -> Tensor:
    made = value.to(like.dtype)
    if not bool(torch.isfinite(value).all()) or (is_variance and bool((value < 0).any())):
        raise PortError(
            what=f"The weights for {name!r} are NaN, infinite, or a negative variance.", where=plan.path,
            received=f"{int((~torch.isfinite(value)).sum())} of {value.numel()} values are not finite; the smallest is "
            f"{float(value.float().nan_to_num().min()):.3g}",
            do="take a checkpoint from before the training diverged; the module is unchanged.",
        )  # fmt: skip
    if not bool(torch.isfinite(made).all()):
        raise PortError(
            what=f"The weights for {name!r} do not fit into {str(like.dtype).removeprefix('torch.')}.",
            where=plan.path, received=f"values of up to {float(value.abs().max()):.3g}",
            do="port into the module in float32 (`model.float()`), then convert it.",
        )  # fmt: skip
    return made
