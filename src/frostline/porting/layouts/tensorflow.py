"""Layouts of TensorFlow 1: those of Keras, and cells with one kernel for input and state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.porting.blocks import ResetBeforeGRU
from frostline.porting.layouts import keras
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Layout, Move, blocks
from frostline.porting.layouts.rules import fits

if TYPE_CHECKING:
    from frostline.porting.units.unit import SourceUnit, TargetUnit

FORGET_BIAS = 1.0  # `BasicLSTMCell` and `LSTMCell` add it at run time and do not store it
_GATES = blocks("gates i, j, f, o to i, f, j, o", 4, (0, 2, 1, 3))


NO_FORGET_BIAS = Move("bias_hh")


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a TensorFlow 1 layer to a PyTorch layer; None if the layers do not fit.

    References:
        TensorFlow 1.15, `ops/rnn_cell_impl.py`; measured against PyTorch 2.13 (docs/formats.md).
    """
    if "gates_of_state" in unit.leaves:
        return _reset_before(unit, target) if isinstance(target.module, ResetBeforeGRU) else None
    if "kernel_of_state" not in unit.leaves:
        return keras.moves(unit, target)
    if not isinstance(target.module, (nn.LSTM, nn.LSTMCell)):
        return None
    gates = TRANSPOSED.then(_GATES)
    made = (
        Move("weight_ih", ("kernel_of_input",), (gates,)), Move("weight_hh", ("kernel_of_state",), (gates,)),
        Move("bias_ih", ("bias",), (_GATES,)), Move("bias_hh", (), (_forget(),)),
    )  # fmt: skip
    is_whole = {move.target for move in made} == set(target.tensors) and "bias" in unit.leaves
    return made if is_whole and fits(unit, target, made) else None


_RESET_LAST = blocks("gates r, u to u, r", 2, (1, 0))


def _reset_before(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves of a GRU cell of TF1: kernels of both gates and of the candidate, each for input and state."""
    gates = TRANSPOSED.then(_RESET_LAST)
    made = (
        Move("weight_ih", ("gates_of_input", "candidate_of_input"), (gates, TRANSPOSED)),
        Move("weight_hh", ("gates_of_state", "candidate_of_state"), (gates, TRANSPOSED)),
        Move("bias", ("gates_bias", "candidate_bias"), (_RESET_LAST, SAME)),
    )
    is_whole = {leaf for move in made for leaf in move.sources} == set(unit.leaves)
    return made if is_whole and fits(unit, target, made) else None


def _forget() -> Layout:
    def ones(like: Tensor) -> Tensor:
        made = torch.zeros_like(like)
        made[like.shape[0] // 4 : like.shape[0] // 2] = FORGET_BIAS
        return made

    return Layout(f"the forget bias of {FORGET_BIAS:g}, which is not stored", ones, lambda tensor: tensor)
