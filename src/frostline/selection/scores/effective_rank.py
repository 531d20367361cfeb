"""Effective rank: in how many directions features spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.selection.scores.contract import Scored

if TYPE_CHECKING:
    from frostline.selection.scores.contract import Features
    from frostline.selection.targets import Targets


def effective_rank(features: Features, targets: Targets) -> Scored:
    """The exponential of the entropy of the singular values of the centred features; no target is used.

    A small one beside a wide layer says that its features have collapsed to a few directions.

    References:
        Roy and Vetterli, 2007: The effective rank: a measure of effective dimensionality, definition 1.
    """
    _, values_R = features.centred_svd
    shares_R = values_R / values_R.sum()
    return Scored(float(np.exp(-(shares_R * np.log(shares_R)).sum())))
