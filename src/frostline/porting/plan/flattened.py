"""The order in which a map was flattened: (height, width, channels) in most frameworks, (channels, height, width) here.

Legend: C channels, I flattened features.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.layout import SAME, TRANSPOSED, Layout

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.porting.graphs.target_graph import Flow
    from frostline.porting.plan.steps import Step

CHANNELS_LAST = ("keras", "tensorflow", "flax")


def ways(step: Step, flow: Flow | None, framework: str, *, has_maps: bool) -> tuple[Step, ...]:
    """The step as it may be, by the order in which the file's network flattens what comes before the layer.

    Args:
        step: As layouts alone have it.
        flow: What a run of the module showed; None if it could not be run.
        framework: Of the file.
        has_maps: Whether the module has convolutions, so that something may be flattened.

    Returns:
        One step if the order is told; several if it is not.
    """
    if framework == "numpy" and isinstance(step.target.module, nn.Linear):
        return _either_side(step)
    if _is_unnamed(step) and isinstance(step.target.module, nn.Linear):  # `w` of somebody's own class: (in, out) or not
        sides = _either_side(step)
        if len(sides) > 1:
            return sides
    if framework not in CHANNELS_LAST:
        return (step,)
    if flow is None:
        weight = step.target.tensors.get("weight")
        is_dense = weight is not None and weight.ndim == 2 and "kernel" in step.source.leaves
        return (step, step) if has_maps and is_dense else (step,)
    flat = flow.flattened.get(step.target.name)
    if flat is not None and not flat.shape:  # pieces that were joined after they were flattened
        return (step, step)
    if flat is None or math.prod(flat.shape[1:]) == 1:
        return (step,)
    is_first, is_last = flat.shape[0] == flat.channels, flat.shape[-1] == flat.channels
    as_maps = _ordered(step, flat.shape)
    if is_first == is_last:
        return (step, as_maps)
    return (as_maps,) if is_first else (step,)


def _is_unnamed(step: Step) -> bool:
    return any(tensor.leaf == "w" for tensor in step.source.leaves.values())


def _either_side(step: Step) -> tuple[Step, ...]:
    """Arrays of nobody knows whom: a square matrix may be (in, out) or (out, in)."""
    shape = step.target.tensors["weight"].shape
    if shape[0] != shape[1]:
        return (step,)
    turned = tuple(
        replace(move, layouts=(TRANSPOSED,) if move.layouts == (SAME,) else (SAME,))
        if move.target == "weight"
        else move
        for move in step.moves
    )
    return (step, replace(step, moves=turned))


def _ordered(step: Step, shape: tuple[int, ...]) -> Step:
    """The step whose source rows come in the order of the module, which flattens (channels, ...)."""
    count = math.prod(shape)
    layout = from_channels_last(shape)
    moves = tuple(
        replace(move, layouts=tuple(layout.then(own) for own in move.layouts))
        if move.sources and all(step.source.leaves[leaf].shape[:1] == (count,) for leaf in move.sources)
        else move
        for move in step.moves
    )  # fmt: skip
    return replace(step, moves=moves)


def from_channels_last(shape: tuple[int, ...]) -> Layout:
    """Rows in the order (..., C) to rows in the order (C, ...).

    Args:
        shape: (C, ...), as the module flattens it.
    """
    axes = len(shape)
    last = (*shape[1:], shape[0])

    def forward(tensor: Tensor) -> Tensor:
        rest = tuple(range(axes, axes + tensor.ndim - 1))
        return tensor.reshape(*last, *tensor.shape[1:]).permute(axes - 1, *range(axes - 1), *rest).reshape(tensor.shape)

    def inverse(tensor: Tensor) -> Tensor:
        rest = tuple(range(axes, axes + tensor.ndim - 1))
        return tensor.reshape(*shape, *tensor.shape[1:]).permute(*range(1, axes), 0, *rest).reshape(tensor.shape)

    return Layout("rows from (..., channels) to (channels, ...)", forward, inverse)
