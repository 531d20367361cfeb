"""Layouts of PyTorch files, and of frameworks that store the same arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts import normed
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Move, padded, reshaped
from frostline.porting.layouts.rules import assemble, fits

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Layout
    from frostline.porting.units.unit import SourceUnit, TargetUnit

# Names of layers that are (in, out) in GPT-2; other models use these names for linear layers.
CONV1D = ("c_attn", "c_fc", "c_proj", "q_attn")
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # in the first BERT and other models converted from TensorFlow


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a layer of a PyTorch file to a layer of the module; None if the layers do not fit.

    A linear layer fits a convolution with kernel size 1; otherwise the types must be equal.
    """
    hidden = normed.computed(unit, target)
    if hidden:
        return _of_norms(unit, target, hidden)
    if "bias_n" in unit.leaves and isinstance(target.module, (nn.GRU, nn.GRUCell)):
        return _gru_of_equinox(unit, target)
    if {"weight_hh", "bias"} <= set(unit.leaves) and isinstance(target.module, (nn.LSTM, nn.LSTMCell)):
        return assemble(unit, target, _LSTM_OF_EQUINOX, {"bias_hh": 0.0})
    rows: dict[str, tuple[str, Layout]] = {}
    is_conv1d = unit.name.rpartition("/")[2].rpartition(".")[2] in CONV1D and isinstance(target.module, nn.Linear)
    for leaf, tensor in unit.leaves.items():
        own = _OLD_NAMES.get(leaf, leaf)
        wanted = target.tensors.get(own)
        if wanted is None:
            return None
        form = _form(tuple(tensor.shape), tuple(wanted.shape))
        is_turned = is_conv1d and own == "weight" and tuple(tensor.shape) != tuple(wanted.shape)
        if own == "bias" and isinstance(target.module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            form = _flat(tuple(tensor.shape), tuple(wanted.shape))
        rows[leaf] = (own, TRANSPOSED if is_turned else form)
    return assemble(unit, target, rows, {"num_batches_tracked": 0.0})


def _of_norms(unit: SourceUnit, target: TargetUnit, hidden: dict[str, tuple[str, ...]]) -> tuple[Move, ...] | None:
    """The moves of a layer for which the file has the tensors of a weight norm or spectral norm."""
    used = {part for parts in hidden.values() for part in parts}
    leaves = {leaf: tensor for leaf, tensor in unit.leaves.items() if leaf not in used}
    tensors = {own: tensor for own, tensor in target.tensors.items() if own not in hidden}
    rest = moves(replace(unit, leaves=leaves), replace(target, tensors=tensors))
    made = [normed.plain(unit, own, parts, target) for own, parts in hidden.items()]
    found = tuple(move for move in made if move is not None)
    if rest is None or len(found) < len(made) or not fits(unit, target, found):
        return None
    return (*found, *rest)


_LSTM_OF_EQUINOX = {
    "weight_ih": ("weight_ih", SAME), "weight_hh": ("weight_hh", SAME), "bias": ("bias_ih", SAME),
}  # fmt: skip


def _gru_of_equinox(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves of a GRU of Equinox: one bias for all gates, another one for the last gate of the state."""
    size = unit.leaves["bias_n"].shape[0] if unit.leaves["bias_n"].shape else 0
    last = padded("zeros for the other gates", 2 * size, 0)
    rows = {"weight_ih": ("weight_ih", SAME), "weight_hh": ("weight_hh", SAME), "bias": ("bias_ih", SAME),
            "bias_n": ("bias_hh", last)}  # fmt: skip
    return assemble(unit, target, rows)


def _flat(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Layout:
    """The layout of a bias with spatial axes, as in Equinox, whose transposed convolutions are not supported."""
    is_wide = len(shape) > 1 and shape[:1] == wanted and all(size == 1 for size in shape[1:])
    return reshaped("axes of the map left out", shape, wanted) if is_wide else SAME


def _form(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Layout:
    short, long = sorted((shape, wanted), key=len)
    if len(short) == 2 and long[:2] == short and all(size == 1 for size in long[2:]) and len(long) > 2:
        return reshaped("a convolution over one place and a linear layer are the same", shape, wanted)
    return SAME
