"""Units of the file as the module needs them: layers that it has in one piece are joined, others are taken apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units import SourceUnit, TargetUnit

_ATTENTION = (("query", "key", "value", "attention_output"), ("query", "key", "value", "output"), ("query", "key", "value", "out"))


def grouped(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> tuple[SourceUnit, ...]:
    """The units that are matched.

    A separable convolution is two layers in PyTorch; the bias of a GRU is two; query, key, value and output of an attention
    are one `nn.MultiheadAttention` where the module has any.

    Args:
        units: Of the file.
        targets: Of the module.
    """
    apart: list[SourceUnit] = []
    for unit in units:
        apart += _apart(unit)
    if any(isinstance(target.module, nn.MultiheadAttention) for target in targets):
        for parts in _ATTENTION:
            apart = _joined(apart, parts)
    return tuple(apart)


def _apart(unit: SourceUnit) -> list[SourceUnit]:
    leaves = dict(unit.leaves)
    if "pointwise_kernel" in leaves and "depthwise_kernel" in leaves:
        first = {"depthwise_kernel": leaves.pop("depthwise_kernel")}
        rest = {"kernel": leaves.pop("pointwise_kernel"), **leaves}
        return [replace(unit, name=f"{unit.name}/depthwise", leaves=first),
                replace(unit, name=f"{unit.name}/pointwise", leaves=rest)]  # fmt: skip
    bias = leaves.get("bias")
    if bias is not None and "recurrent_kernel" in leaves and len(bias.shape) == 2:
        del leaves["bias"]
        rows = {f"bias[{row}]": part(bias, f"[{row}]", (bias.shape[1],), _row(row)) for row in range(bias.shape[0])}
        return [replace(unit, leaves={**leaves, **rows})]
    return [unit]


def part(tensor: SourceTensor, name: str, shape: tuple[int, ...], take: Callable[[Tensor], Tensor]) -> SourceTensor:
    """A part of a source tensor as a tensor of its own; the parts of one tensor must cover it."""
    return replace(tensor, name=f"{tensor.name}{name}", shape=shape, load=lambda: take(tensor.load()))


def _row(index: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[index]


def _joined(units: list[SourceUnit], parts: tuple[str, ...]) -> list[SourceUnit]:
    """Units `x/a, x/b, ...` as one unit `x` with leaves `a/kernel, ...`, where all parts are there."""
    by_parent: dict[str, dict[str, SourceUnit]] = {}
    for unit in units:
        parent, _, last = unit.name.rpartition("/")
        if last in parts:
            by_parent.setdefault(parent, {})[last] = unit
    whole = {parent: found for parent, found in by_parent.items() if len(found) == len(parts)}
    result: list[SourceUnit] = []
    for unit in units:
        parent, _, last = unit.name.rpartition("/")
        if parent not in whole or last not in parts:
            result.append(unit)
        elif last == parts[0]:
            leaves = {f"{name}/{leaf}": tensor for name, one in whole[parent].items() for leaf, tensor in one.leaves.items()}
            result.append(replace(unit, name=parent, leaves=leaves))
    return result
