"""Layouts of PyTorch itself, and of frameworks that store the same arrays: names of tensors, and their form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.layouts.layout import SAME, reshaped
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Layout, Move
    from frostline.porting.units import SourceUnit, TargetUnit

_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of the first BERT and other ports from TensorFlow


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """How a layer of a PyTorch file becomes a layer of the module; None if it cannot.

    A linear layer and a convolution over one place hold the same numbers; nothing else is given another form.
    """
    rows: dict[str, tuple[str, Layout]] = {}
    for leaf, tensor in unit.leaves.items():
        own = _OLD_NAMES.get(leaf, leaf)
        wanted = target.tensors.get(own)
        if wanted is None:
            return None
        rows[leaf] = (own, _form(tuple(tensor.shape), tuple(wanted.shape)))
    return assemble(unit, target, rows, {"num_batches_tracked": 0.0})


def _form(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Layout:
    short, long = sorted((shape, wanted), key=len)
    if len(short) == 2 and long[:2] == short and all(size == 1 for size in long[2:]) and len(long) > 2:
        return reshaped("a convolution over one place and a linear layer are the same", shape, wanted)
    return SAME
