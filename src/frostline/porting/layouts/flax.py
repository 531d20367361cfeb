"""Layouts of Flax: kernels as in Keras, transposed convolutions in two ways; cells in one dense layer per gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts import keras
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Layout, Move, flipped, padded, permuted
from frostline.porting.layouts.rules import assemble, fits, over_maps

if TYPE_CHECKING:
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_TRANSPOSED: dict[type[nn.Module], Layout] = {
    nn.ConvTranspose1d: permuted("(k, in, out) to (in, out, k)", 1, 2, 0).then(flipped("mirrored", 2)),
    nn.ConvTranspose2d: permuted("(h, w, in, out) to (in, out, h, w)", 2, 3, 0, 1).then(flipped("mirrored", 2, 3)),
    nn.ConvTranspose3d: permuted("(d, h, w, in, out) to (in, out, d, h, w)", 3, 4, 0, 1, 2).then(
        flipped("mirrored", 2, 3, 4)
    ),
}
_NORM = {
    "scale": ("weight", SAME), "bias": ("bias", SAME), "mean": ("running_mean", SAME), "var": ("running_var", SAME),
}  # fmt: skip
_RECURRENT = (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell, nn.RNN, nn.RNNCell)
_FUSED = {  # cells of NNX: gates in the order of PyTorch (i, f, g, o and r, z, n)
    "dense_i/kernel": ("weight_ih", TRANSPOSED), "dense_i/bias": ("bias_ih", SAME),
    "dense_h/kernel": ("weight_hh", TRANSPOSED), "dense_h/bias": ("bias_hh", SAME),
}  # fmt: skip
LSTM_GATES, GRU_GATES = ("i", "f", "g", "o"), ("r", "z", "n")


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a Flax layer to a PyTorch layer; None if the layers do not fit.

    References:
        Flax 0.12, `linen/linear.py`, `linen/recurrent.py`; measured against PyTorch 2.13 (docs/formats.md).
    """
    module = target.module
    if isinstance(module, tuple(_TRANSPOSED)):
        layout = next(layout for kind, layout in _TRANSPOSED.items() if isinstance(module, kind))
        made = assemble(unit, target, {"kernel": ("weight", layout), "bias": ("bias", SAME)})
        return made if made is not None else keras.moves(unit, target)  # transpose_kernel=True stores it as Keras does
    if isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)):
        defaults = {"weight": 1.0, "bias": 0.0, "num_batches_tracked": 0.0}
        return assemble(unit, target, over_maps(unit, target, _NORM), defaults) if unit.leaves else None
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return assemble(unit, target, {"embedding": ("weight", SAME)})
    if "dense_i/kernel" in unit.leaves and isinstance(module, _RECURRENT):
        return assemble(unit, target, _FUSED, {"bias_ih": 0.0, "bias_hh": 0.0})
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return _cell(unit, target, LSTM_GATES)
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        return _cell(unit, target, GRU_GATES)
    if isinstance(module, nn.PReLU):
        return assemble(unit, target, {"negative_slope": ("weight", _SLOPE)})
    return keras.moves(unit, target)


_SLOPE = Layout("one slope", lambda tensor: tensor.reshape(1), lambda tensor: tensor.reshape(()))


def _cell(unit: SourceUnit, target: TargetUnit, gates: tuple[str, ...]) -> tuple[Move, ...] | None:
    """The moves from the dense layers of a cell, packed by gate; a gate whose layer has no bias gets zeros."""
    made: list[Move] = []
    used = 0
    for side, own in (("i", "ih"), ("h", "hh")):
        kernels = tuple(f"{side}{gate}/kernel" for gate in gates)
        if not set(kernels) <= set(unit.leaves):
            return None
        made.append(Move(f"weight_{own}", kernels, (TRANSPOSED,) * len(gates)))
        biases = tuple(f"{side}{gate}/bias" for gate in gates if f"{side}{gate}/bias" in unit.leaves)
        used += len(kernels) + len(biases)
        if f"bias_{own}" in target.tensors:
            made.append(_bias(unit, f"bias_{own}", biases, side, gates))
    found = tuple(made)
    is_whole = {move.target for move in found} == set(target.tensors) and used == len(unit.leaves)
    return found if is_whole and fits(unit, target, found) else None


def _bias(unit: SourceUnit, own: str, biases: tuple[str, ...], side: str, gates: tuple[str, ...]) -> Move:
    if not biases:
        return Move(own)
    if len(biases) == len(gates):
        return Move(own, biases, (SAME,) * len(gates))
    size = unit.leaves[biases[0]].shape[0]
    place = [f"{side}{gate}/bias" in biases for gate in gates].index(True)
    before, after = place * size, (len(gates) - place - 1) * size
    return Move(own, biases, (padded("zeros for the other gates", before, after),))
