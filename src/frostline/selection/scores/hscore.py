"""H-score: how far apart class means lie, measured by the spread of the features. Legend: N samples, R rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.selection.scores.contract import Scored

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from frostline.selection.scores.contract import Features
    from frostline.selection.targets import Targets


def hscore(features: Features, targets: Targets) -> Scored | None:
    """The trace of cov(features)^-1 cov(class means); of labels the mean over labels. Not defined for numbers.

    It grows with the number of features: with as many as samples it is the largest there can be, whatever they hold.

    References:
        Bao, Li, Huang, Zhang, Zheng, Zamir and Guibas, 2019: An Information-Theoretic Approach to Transferability in
        Task Transfer Learning, definition 2.
    """
    left_NR, _ = features.centred_svd
    scale = len(left_NR) - 1
    return _mean_over(targets, lambda classes: float(scale * _class_means(left_NR, classes).var(0, ddof=1).sum()))


def regularized_hscore(features: Features, targets: Targets) -> Scored | None:
    """The H-score with a covariance shrunk by Ledoit and Wolf, so that few samples and many features do not inflate it.

    References:
        Ibrahim, Ponomareva and Mazumder, 2022: Newer is not always better: Rethinking transferability metrics, their
        peculiarities, stability and performance, section 3.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    left_NR, values_R = features.centred_svd
    means_NC = features.means_NC
    shrinkage = float(ledoit_wolf_shrinkage(means_NC))
    variances_R = values_R**2 / len(means_NC)  # as Ledoit and Wolf take it, not N - 1
    spread = float(variances_R.sum()) / means_NC.shape[1]
    shrunk_R = (1 - shrinkage) * variances_R + shrinkage * spread

    def score(classes: NDArray[np.int64]) -> float:
        between_R = _class_means(left_NR * values_R, classes).var(0, ddof=1)
        return float((1 - shrinkage) * (between_R / shrunk_R).sum())

    return _mean_over(targets, score)


def _mean_over(targets: Targets, score: Callable[[NDArray[np.int64]], float]) -> Scored | None:
    if targets.kind == "numbers":
        return None
    if targets.kind == "classes":
        return Scored(score(targets.values))
    return Scored(float(np.mean([score(column.astype(np.int64)) for column in targets.values.T])))


def _class_means(rows_NR: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, R): each row is replaced by the mean of its class."""
    sums = np.zeros((int(classes.max()) + 1, rows_NR.shape[1]))
    np.add.at(sums, classes, rows_NR)
    return (sums / np.maximum(np.bincount(classes), 1)[:, None])[classes]
