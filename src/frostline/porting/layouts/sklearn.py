"""Layouts of scikit-learn's networks: one matrix and one vector per layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.layout import SAME, TRANSPOSED
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units import SourceUnit, TargetUnit


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """How a layer of an `MLPClassifier` or `MLPRegressor` becomes a linear layer; None if it cannot.

    References:
        scikit-learn 1.9, `neural_network/_multilayer_perceptron.py`; measured against PyTorch 2.13 (docs/formats.md).
    """
    if not isinstance(target.module, nn.Linear):
        return None
    return assemble(unit, target, {"coefs": ("weight", TRANSPOSED), "intercepts": ("bias", SAME)})
