"""Layouts of TensorFlow 1: those of Keras, and the cells that keep one kernel for input and state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.porting.layouts import keras
from frostline.porting.layouts.layout import TRANSPOSED, Layout, Move, blocks
from frostline.porting.layouts.rules import fits

if TYPE_CHECKING:
    from frostline.porting.units.units import SourceUnit, TargetUnit

FORGET_BIAS = 1.0  # `BasicLSTMCell` and `LSTMCell` add it while they run, and do not store it
_GATES = blocks("gates i, j, f, o to i, f, j, o", 4, (0, 2, 1, 3))


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """How a layer of TensorFlow 1 becomes a layer of PyTorch; None if it cannot.

    References:
        TensorFlow 1.15, `ops/rnn_cell_impl.py`; measured against PyTorch 2.13 (docs/formats.md).
    """
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


def _forget() -> Layout:
    def ones(like: Tensor) -> Tensor:
        made = torch.zeros_like(like)
        made[like.shape[0] // 4 : like.shape[0] // 2] = FORGET_BIAS
        return made

    return Layout(f"the forget bias of {FORGET_BIAS:g}, which is not stored", ones, lambda tensor: tensor)
