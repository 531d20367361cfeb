"""Layouts of ONNX: convolutions as in PyTorch; matrix products according to `transB`; another order of gates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.blocks import ResetBeforeGRU
from frostline.porting.layouts import torch
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Combine, Move, blocks, reshaped
from frostline.porting.layouts.rules import assemble, fits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.layouts.layout import Layout
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_NORM = {
    "scale": ("weight", SAME), "weight": ("weight", SAME), "B": ("bias", SAME), "bias": ("bias", SAME),
    "mean": ("running_mean", SAME), "var": ("running_var", SAME),
}  # fmt: skip
_LSTM_GATES = blocks("gates i, o, f, c to i, f, c, o", 4, (0, 2, 3, 1))
_GRU_GATES = blocks("gates z, r, h to r, z, n", 3, (1, 0, 2))


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from an ONNX node to a PyTorch layer; None if the two do not fit.

    References:
        ONNX operators, opset 21; measured against PyTorch 2.13 (docs/formats.md).
    """
    module = target.module
    if isinstance(module, (nn.modules.conv._ConvNd,)):
        return assemble(unit, target, {"weight": ("weight", SAME), "bias": ("bias", SAME)})
    if isinstance(module, nn.Linear):
        layout = SAME if unit.setting("transB", 0) else TRANSPOSED
        return assemble(unit, target, {"weight": ("weight", layout), "bias": ("bias", SAME)})
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return assemble(unit, target, {"weight": ("weight", SAME)})
    if isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)):
        return assemble(unit, target, _NORM, {"bias": 0.0, "num_batches_tracked": 0.0})
    if isinstance(module, nn.PReLU):
        shape = unit.leaves["slope"].shape if "slope" in unit.leaves else ()
        return assemble(
            unit, target, {"slope": ("weight", reshaped("(channels, 1, 1) to (channels)", shape, shape[:1]))}
        )
    if "weight_ih" in unit.leaves:  # weights in the order of PyTorch, which the graph reorders
        return torch.moves(unit, target)
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return _recurrent(unit, target, _LSTM_GATES)
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        # Without `linear_before_reset` the reset gate is applied before the product, which no GRU of PyTorch does.
        return _recurrent(unit, target, _GRU_GATES) if unit.setting("linear_before_reset", 0) else None
    if isinstance(module, ResetBeforeGRU):
        return None if unit.setting("linear_before_reset", 0) else _reset_before(unit, target)
    if isinstance(module, (nn.RNN, nn.RNNCell)):
        return _recurrent(unit, target, SAME)
    return None


def multiplied(unit: SourceUnit, moves: Sequence[Move]) -> tuple[Move, ...]:
    """The moves of a Gemm, with its alpha multiplied into the weight and its beta into the bias."""
    factors = {leaf: unit.setting(name, 1.0) for leaf, name in (("weight", "alpha"), ("bias", "beta"))}
    return tuple(_times(move, factors.get(move.sources[0], 1.0)) if move.sources else move for move in moves)


def _times(move: Move, factor: object) -> Move:
    if not isinstance(factor, (int, float)) or factor == 1:
        return move
    return replace(move, combine=Combine(f"times {factor:g}", lambda made: move.joined(made) * factor))


_SUM = Combine("the sum", lambda biases: biases[0] + biases[1])


def _reset_before(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves to a `ResetBeforeGRU`, with gates z, r, h; its single bias is the sum of both biases of the node."""
    if "bias_hh" in target.tensors:
        rows = {"W": ("weight_ih", SAME), "R": ("weight_hh", SAME), "Wb": ("bias", SAME), "Rb": ("bias_hh", SAME)}
        return assemble(unit, target, rows, {"bias": 0.0, "bias_hh": 0.0})
    made = [Move("weight_ih", ("W",), (SAME,)), Move("weight_hh", ("R",), (SAME,))]
    if {"Wb", "Rb"} <= set(unit.leaves):
        made.append(Move("bias", ("Wb", "Rb"), (SAME, SAME), combine=_SUM))
    else:
        made.append(Move("bias"))
    is_whole = {leaf for move in made for leaf in move.sources} == set(unit.leaves)
    return tuple(made) if is_whole and fits(unit, target, tuple(made)) else None


def _recurrent(unit: SourceUnit, target: TargetUnit, gates: Layout) -> tuple[Move, ...] | None:
    rows = {"W": ("weight_ih", gates), "R": ("weight_hh", gates), "Wb": ("bias_ih", gates), "Rb": ("bias_hh", gates)}
    return assemble(unit, target, rows, {"bias_ih": 0.0, "bias_hh": 0.0})
