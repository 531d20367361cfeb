"""LogME: the evidence that a Bayesian linear model has for targets, given features. Legend: N samples, R rank."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from frostline.selection.scores.contract import Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.selection.scores.contract import Features
    from frostline.selection.targets import Targets

_MAX_STEPS = 200
_SMALL = 1e-5  # added to denominators, as the authors' code does: features that fit perfectly have no largest evidence


def logme(features: Features, targets: Targets) -> Scored:
    """The logarithm of the maximum evidence per sample, the mean over classes, labels or numbers.

    References:
        You, Liu, Wang and Long, 2021: LogME: Practical Assessment of Pre-trained Models for Transfer Learning,
        equations 2 to 4 and algorithm 1.
    """
    left_NR, values_R = features.svd
    width = features.means_NC.shape[1]
    columns = targets.columns()
    return Scored(
        float(np.mean([_evidence(left_NR, values_R, width, columns[:, at]) for at in range(columns.shape[1])]))
    )


def _evidence(
    left_NR: NDArray[np.float64], values_R: NDArray[np.float64], width: int, target: NDArray[np.float64]
) -> float:
    """The largest log evidence per sample over the precisions alpha (of the weights) and beta (of the noise)."""
    count = len(target)
    squares_R, along_R = values_R**2, left_NR.T @ target
    outside = float(target @ target - along_R @ along_R)  # of the target, what no weights reach
    alpha = beta = 1.0
    residual = weights = 0.0
    for _ in range(_MAX_STEPS):
        shrunk_R = alpha + beta * squares_R
        weights = float(((beta * values_R * along_R / shrunk_R) ** 2).sum())
        residual = float(((alpha * along_R / shrunk_R) ** 2).sum()) + max(outside, 0.0)
        gamma = float((beta * squares_R / shrunk_R).sum())
        ratio, alpha, beta = alpha / beta, gamma / (weights + _SMALL), (count - gamma) / (residual + _SMALL)
        if abs(alpha / beta - ratio) <= 1e-6 * ratio:
            break
    shrunk_R = alpha + beta * squares_R
    weights = float(((beta * values_R * along_R / shrunk_R) ** 2).sum())
    residual = float(((alpha * along_R / shrunk_R) ** 2).sum()) + max(outside, 0.0)
    logdet = float(np.log(shrunk_R).sum()) + (width - len(values_R)) * math.log(alpha)
    total = count * math.log(beta) + width * math.log(alpha) - count * math.log(2 * math.pi)
    return 0.5 * (total - beta * residual - alpha * weights - logdet) / count
