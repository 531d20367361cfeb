"""Layouts of scikit-learn: multilayer perceptrons with weights (in, out)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.layout import SAME, TRANSPOSED
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a layer of a perceptron to a linear layer; None if the layers do not fit.

    References:
        scikit-learn 1.9, `neural_network/_multilayer_perceptron.py`: `X @ coefs_[i] + intercepts_[i]`.
    """
    if isinstance(target.module, nn.Linear):
        return assemble(unit, target, {"coefs": ("weight", TRANSPOSED), "intercepts": ("bias", SAME)})
    return None
