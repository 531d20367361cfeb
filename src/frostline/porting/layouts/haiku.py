"""Layouts of Haiku: those of Flax, except transposed convolutions and recurrent cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.porting.blocks import ResetBeforeGRU
from frostline.porting.layouts import flax, tensorflow
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Layout, flipped, permuted
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_TRANSPOSED: dict[type[nn.Module], Layout] = {
    nn.ConvTranspose1d: permuted("(k, out, in) to (in, out, k)", 2, 1, 0).then(flipped("mirrored", 2)),
    nn.ConvTranspose2d: permuted("(h, w, out, in) to (in, out, h, w)", 3, 2, 0, 1).then(flipped("mirrored", 2, 3)),
    nn.ConvTranspose3d: permuted("(d, h, w, out, in) to (in, out, d, h, w)", 4, 3, 0, 1, 2).then(
        flipped("mirrored", 2, 3, 4)
    ),
}


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a Haiku layer to a PyTorch layer; None if the layers do not fit.

    Args:
        unit: The unit, with the leaves that `units.forms.haiku` assigns.
        target: The layer of the module.

    References:
        dm-haiku 0.0.17, `_src/recurrent.py`, `_src/conv.py`; measured against PyTorch 2.13 (docs/formats.md).
    """
    module = target.module
    if "kernel_of_state" in unit.leaves:  # gates i, g, f, o; the forget bias of 1 is not stored, as in TF1
        return tensorflow.moves(unit, target)
    if "w_h" in unit.leaves:
        return assemble(unit, target, _GRU) if isinstance(module, ResetBeforeGRU) else None
    if "dense_h/kernel" in unit.leaves and getattr(module, "nonlinearity", "") != "relu":
        return None  # the one activation that VanillaRNN has
    layout = next((layout for kind, layout in _TRANSPOSED.items() if isinstance(module, kind)), None)
    if layout is not None:
        return assemble(unit, target, {"kernel": ("weight", layout), "bias": ("bias", SAME)})
    return flax.moves(unit, target)


def _first_negated(tensor: Tensor) -> Tensor:
    first, rest = tensor.tensor_split((tensor.shape[0] // 3,))
    return torch.cat([-first, rest])


# The update gate multiplies the new state in Haiku and the old one in PyTorch; sigmoid(-x) is 1 - sigmoid(x).
_NEGATED = Layout("update gate negated", _first_negated, _first_negated)
_GRU = {
    "w_i": ("weight_ih", TRANSPOSED.then(_NEGATED)), "w_h": ("weight_hh", TRANSPOSED.then(_NEGATED)),
    "bias": ("bias", _NEGATED),
}  # fmt: skip
