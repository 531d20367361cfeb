"""What a trained head can reach from each line: features at the line and at all above it, in one linear model.

Legend: N samples, K columns of targets, P components, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from frostline.selection.scores.contract import Features
    from frostline.selection.targets import Targets

_PENALTIES = tuple(10.0 ** (power / 2) for power in range(-8, 5))  # of the mean eigenvalue
_MOST_TOGETHER = 1536  # components of all lines: an eigendecomposition of so many takes a second


@dataclass(frozen=True)
class Reach:
    """What is explained of the targets from one line.

    Attributes:
        value: R2 of held-out predictions, the mean over columns.
        losses: (N,) squared errors of each sample, as a share of the variance of a column; their mean is 1 - `value`.
    """

    value: float
    losses: NDArray[np.float64]

    def behind(self, best: Reach) -> tuple[float, float]:
        """(by how much this is behind another, the standard error of that difference on the same samples)."""
        differences = self.losses - best.losses
        return float(differences.mean()), float(differences.std(ddof=1) / len(differences) ** 0.5)


def reaches(lines: Sequence[Features | None], targets: Targets) -> list[Reach | None]:
    """What ridge regression explains of the targets from the features at each line and at all above it together.

    If the layers above a line train, they can keep what they give, and learn to pass on what the line gives: the union
    stands for what they can reach. Each line has the same weight; classes are columns of zeros and ones. Every sample
    is predicted from all others, and the penalty is the one that does this best.

    Args:
        lines: Features of each line, from the bottom to the top; None where there are none.
        targets: Targets of the samples.

    Returns:
        None for lines without features of their own.

    References:
        Evci et al. 2022, Head2Toe, section 3 (features of all layers). Hastie, Tibshirani and Friedman 2009, The
        Elements of Statistical Learning, equation 7.64 (leaving one sample out).
    """
    known = [features for features in lines if features is not None]
    most = _MOST_TOGETHER // max(1, len(known))
    found: list[Reach | None] = []
    together: list[NDArray[np.float64]] = []
    for features in reversed(lines):
        if features is None:
            found.append(None)
            continue
        together.append(features.components[:, :most])
        found.append(_leaving_one_out(np.concatenate(together, 1), targets.columns()))
    return found[::-1]


def _leaving_one_out(rows_NP: NDArray[np.float64], columns_NK: NDArray[np.float64]) -> Reach:
    varies = columns_NK.var(0) > 0
    centred_NK = columns_NK[:, varies] - columns_NK[:, varies].mean(0)
    variances_K = (centred_NK**2).mean(0)
    left_NR, values_R = _principal(rows_NP)
    turned_RK, squares_NR, mean = left_NR.T @ centred_NK, left_NR**2, values_R.sum() / len(rows_NP)
    best: NDArray[np.float64] | None = None
    for penalty in _PENALTIES:
        kept_R = values_R / (values_R + penalty * mean)
        free_N = 1 - squares_NR @ kept_R - 1 / len(rows_NP)  # 1 / N is the share of the mean
        residuals_NK = (centred_NK - left_NR @ (kept_R[:, None] * turned_RK)) / free_N[:, None]
        losses_N = (residuals_NK**2 / variances_K).mean(1)
        if best is None or losses_N.mean() < best.mean():
            best = losses_N
    assert best is not None
    return Reach(1 - float(best.mean()), best)


def _principal(rows_NP: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(left singular vectors (N, R), squares of the singular values (R,)), by the smaller of both products."""
    is_wide = rows_NP.shape[1] >= len(rows_NP)
    values, vectors = np.linalg.eigh(rows_NP @ rows_NP.T if is_wide else rows_NP.T @ rows_NP)
    kept = values > 1e-10 * values.max(initial=0)
    values, vectors = values[kept], vectors[:, kept]
    return (vectors if is_wide else rows_NP @ vectors / np.sqrt(values)), values
