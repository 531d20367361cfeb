"""Layers without a partner that hold the same numbers, under names or in shapes that are not known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.layout import without_ones
from frostline.porting.units.unit import full_name, is_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from frostline.porting.units.unit import SourceUnit, TargetUnit

# Names that layers of several frameworks have for their tensors.
_KNOWN = frozenset(
    {"kernel", "bias", "weight", "gamma", "beta", "scale", "embedding", "embeddings", "mean", "var", "moving_mean",
     "moving_variance", "running_mean", "running_var", "weight_g", "weight_v", "depthwise_kernel", "recurrent_kernel"}
)  # fmt: skip
_OF_KERAS = {"bias": "bias", "running_mean": "moving_mean", "running_var": "moving_variance"}
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def remedy(unused: Iterable[SourceUnit], kept: Iterable[TargetUnit]) -> str:
    """What to do about the first layer of the file that holds what a layer of the module needs; empty if none does.

    Args:
        unused: Layers of the file without a partner.
        kept: Layers of the module without one.
    """
    targets = [target for target in kept if is_layer(target.module) and not target.norms]
    for unit in unused:
        unknown = [leaf for leaf in unit.leaves if leaf not in _KNOWN]
        theirs = [tensor.shape for tensor in unit.leaves.values()]
        for target in targets:
            ours = [tuple(tensor.shape) for own, tensor in target.tensors.items() if own != "num_batches_tracked"]
            if unknown and _sizes(theirs) == _sizes(ours):
                return _of_names(unit, target, unknown)
            if not unknown and _are_flat(theirs, ours):
                return _of_shapes(unit, target)
    return ""


def _of_names(unit: SourceUnit, target: TargetUnit, unknown: Sequence[str]) -> str:
    kind = type(target.module).__name__
    return (
        f"{_quoted(unknown)} of {unit.name!r} {'is no known name' if len(unknown) == 1 else 'are no known names'} for "
        f"the tensors of a layer such as {target.name!r} ({kind}): save the arrays in an .npz, "
        f"as {_quoted(_keras_names(unit, target))} if their axes end in (in, out) as in Keras, "
        f"as {_quoted(_own_names(target))} if they have the shapes of the module, and port that file."
    )


def _of_shapes(unit: SourceUnit, target: TargetUnit) -> str:
    return (
        f"{unit.name!r} and {target.name!r} hold as many numbers in other shapes: save the arrays in an .npz in the "
        f"shapes of the module, as {_quoted(_own_names(target))}, and port that file."
    )


def _own_names(target: TargetUnit) -> list[str]:
    return [full_name(target, own) for own in target.tensors if own != "num_batches_tracked"]


def _keras_names(unit: SourceUnit, target: TargetUnit) -> list[str]:
    is_norm = isinstance(target.module, _NORMS)
    is_table = isinstance(target.module, (nn.Embedding, nn.EmbeddingBag))
    words = {**_OF_KERAS, "weight": "gamma" if is_norm else "embeddings" if is_table else "kernel"}
    words |= {"bias": "beta"} if is_norm else {}
    start = f"{unit.name}/" if unit.name else ""
    return [f"{start}{words.get(own, own)}" for own in target.tensors if own != "num_batches_tracked"]


def _sizes(shapes: Iterable[tuple[int, ...]]) -> list[list[int]]:
    """Sizes of the axes of several tensors, whatever their order."""
    return sorted(sorted(without_ones(shape)) for shape in shapes)


def _are_flat(theirs: Sequence[tuple[int, ...]], ours: Sequence[tuple[int, ...]]) -> bool:
    """Whether tensors differ by axes of one, or by being vectors on one side."""
    left, right = (sorted(map(without_ones, shapes), key=math.prod) for shapes in (theirs, ours))
    return len(left) == len(right) and all(
        one == other or (math.prod(one) == math.prod(other) and 1 in (len(one), len(other)))
        for one, other in zip(left, right, strict=True)
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
