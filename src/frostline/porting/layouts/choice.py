"""Choice of the layout rules by the framework of a file; a parameter outside of known layers is copied unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts import (
    caffe,
    darknet,
    flax,
    folded,
    haiku,
    keras,
    matconvnet,
    mxnet,
    normed,
    onnx,
    packed,
    paddle,
    rotary,
    sklearn,
    tensorflow,
    torch,
)
from frostline.porting.layouts.layout import SAME, TRANSPOSED, channels_first, reshaped, without_ones
from frostline.porting.layouts.rules import assemble
from frostline.porting.units.unit import is_layer

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

# Frameworks whose maps end with the channels, so that what has one number for each element of a map is turned.
CHANNELS_LAST = ("keras", "tensorflow", "flax", "haiku")
_BY_FRAMEWORK = {
    "keras": keras.moves,
    "tensorflow": tensorflow.moves,
    "torch": torch.moves,
    "flax": flax.moves,
    "haiku": haiku.moves,
    "onnx": onnx.moves,
    "paddle": paddle.moves,
    "mxnet": mxnet.moves,
    "caffe": caffe.moves,
    "sklearn": sklearn.moves,
    "darknet": darknet.moves,
    "matconvnet": matconvnet.moves,
    "gguf": torch.moves,
}


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from `unit` to `target`, one for each tensor; None if the two do not fit."""
    if normed.is_of_flax(unit):
        return normed.of_flax(unit, target, moves)
    if rotary.is_paired(unit):
        return rotary.moves(unit, target)
    if all(set(norm.tensors) <= set(unit.leaves) for norm in target.norms.values()):
        found = _moves(unit, target)  # both have the same weight norms, or the layer has none
        if found is not None or not target.norms:
            return found
    found = _moves(unit, normed.without_norms(target))
    return normed.with_norms(unit, target, found) if found is not None else None


def _moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    if target.norm is not None:
        return folded.moves(unit, target)
    if unit.parts and isinstance(target.module, (nn.Linear, nn.MultiheadAttention)):
        return packed.moves(unit, target, _moves)
    rules = _BY_FRAMEWORK.get(unit.framework, _unknown)
    is_whole = is_layer(target.module) and not _is_rest(target)
    found = rules(unit, target) if is_whole else None
    # Mean or variance of a `Normalization` alone fits tensors of that meaning only: any vector has its shape.
    if unit.framework == "keras" and set(unit.leaves) in ({"mean"}, {"variance"}):
        return keras.statistic(unit, target) if keras.is_statistic(unit, target) else None
    if found is None and not is_whole and len(unit.leaves) == len(target.tensors) == 1:
        leaf, own = next(iter(unit.leaves)), next(iter(target.tensors))
        is_last = unit.framework in CHANNELS_LAST
        theirs, ours = unit.leaves[leaf].shape, tuple(target.tensors[own].shape)
        # Frameworks store a token as (C), (1, C) or (1, 1, C): axes of length 1 are no evidence against a pair here.
        layout = channels_first(theirs, ours) if is_last else SAME
        if layout is SAME and without_ones(theirs) == without_ones(ours) and theirs != ours:
            layout = reshaped("axes of length 1 set as in the module", theirs, ours)
        found = assemble(unit, target, {leaf: (own, layout)})
    return found


def _is_rest(target: TargetUnit) -> bool:
    """Whether the weight of the layer is shared, and belongs to the unit of another layer."""
    return target.module._parameters.get("weight") is not None and "weight" not in target.tensors


def _unknown(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves for arrays of unknown origin: the first rules that fit; square matrices stay open (`plan.layouts`)."""
    for rules in (torch.moves, flax.moves, keras.moves):
        found = rules(unit, target)
        if found is not None:
            return found
    if isinstance(target.module, nn.Linear):
        rows = {"weight": ("weight", TRANSPOSED), "bias": ("bias", SAME)}
        return assemble(unit, target, rows)
    return None
