"""A linear probe: the accuracy of a linear layer on frozen features, on samples that it was not trained on."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.selection.scores.contract import Scored, held_out
from frostline.selection.targets import FOLDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.selection.scores.contract import Features
    from frostline.selection.targets import Targets

# Strengths of regularisation to choose from, for rows with a mean square norm of 1.
_INVERSE_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
_PENALTIES = tuple(10.0**power for power in range(-4, 4))
_MAX_STEPS = 200


def probe(features: Features, targets: Targets) -> Scored:
    """Logistic regression for classes, ridge regression for labels and numbers, cross-validated.

    In each of five folds, the regularisation is chosen on training samples alone: of logistic regression by holding out
    one more fold, of ridge regression by leaving out one sample at a time. A label is predicted as often as it holds in
    the training samples.

    References:
        Alain and Bengio, 2016: Understanding intermediate layers using linear classifier probes.
    """
    rows_NP = features.components
    predicted = np.zeros_like(targets.values)
    for fold in range(FOLDS):
        out = targets.folds == fold
        if targets.kind == "classes":
            inner = targets.folds == (fold + 1) % FOLDS
            predicted[out] = _logistic(rows_NP, targets.values, ~out & ~inner, inner, out)
        else:
            predicted[out] = _ridge(rows_NP, targets, ~out, out)
    return held_out(predicted, targets)


def _logistic(
    rows_NP: NDArray[np.float64], classes: NDArray[Any], train: NDArray[Any], inner: NDArray[Any], out: NDArray[Any]
) -> NDArray[Any]:
    best, chosen = -1.0, _INVERSE_STRENGTHS[0]
    for strength in _INVERSE_STRENGTHS:
        hits = float((_fitted(rows_NP[train], classes[train], strength)(rows_NP[inner]) == classes[inner]).mean())
        if hits > best:
            best, chosen = hits, strength
    return _fitted(rows_NP[~out], classes[~out], chosen)(rows_NP[out])


def _fitted(rows_NP: NDArray[np.float64], classes: NDArray[Any], strength: float) -> Any:
    """A function that predicts classes of rows."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(classes)) == 1:  # a fold of a tiny sample
        return lambda rows: np.full(len(rows), classes[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that stops early is a probe all the same
        return LogisticRegression(C=strength, max_iter=_MAX_STEPS, tol=1e-3).fit(rows_NP, classes).predict


def _ridge(
    rows_NP: NDArray[np.float64], targets: Targets, train: NDArray[Any], out: NDArray[Any]
) -> NDArray[np.float64]:
    from sklearn.linear_model import RidgeCV

    columns = targets.columns()
    model = RidgeCV(alphas=_PENALTIES).fit(rows_NP[train], columns[train])
    found = np.asarray(model.predict(rows_NP[out])).reshape(int(out.sum()), -1)
    if targets.kind == "numbers":
        return found
    known = np.asarray(model.predict(rows_NP[train])).reshape(int(train.sum()), -1)
    limits = [np.quantile(known[:, at], 1 - columns[train][:, at].mean()) for at in range(known.shape[1])]
    return (found > np.array(limits)).astype(np.float64)
