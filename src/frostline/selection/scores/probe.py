"""A linear probe: the accuracy of a linear layer on frozen features, on samples that it was not trained on."""

from __future__ import annotations

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
_GRADIENT = 1e-3  # the largest entry of the gradient of the mean loss where L-BFGS stops
_NO_PROGRESS = 1e-14  # relative gain of a step


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
    """Each fit begins where that of the next stronger regularisation ended."""
    num_classes, best, chosen = int(classes.max()) + 1, -1.0, _INVERSE_STRENGTHS[0]
    weights = start = np.zeros((rows_NP.shape[1] + 1, num_classes))
    for strength in _INVERSE_STRENGTHS:
        weights = _fitted(rows_NP[train], classes[train], strength, weights)
        hits = float((_predicted(rows_NP[inner], weights) == classes[inner]).mean())
        if hits > best:
            best, chosen, start = hits, strength, weights
    return _predicted(rows_NP[out], _fitted(rows_NP[~out], classes[~out], chosen, start))


def _predicted(rows_NP: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    return (rows_NP @ weights[:-1] + weights[-1]).argmax(1)


def _fitted(
    rows_NP: NDArray[np.float64], classes: NDArray[Any], strength: float, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(P + 1, K) weights, the bias last, of multinomial logistic regression by L-BFGS.

    The objective is that of scikit-learn's `LogisticRegression`. Its checks of arguments took two thirds of the time of
    a probe on some hundred samples, and it takes no start beyond its own.
    """
    from scipy.optimize import minimize

    count = len(rows_NP)
    places, transposed_PN = np.arange(count), np.ascontiguousarray(rows_NP.T)
    penalty = 1 / (strength * count)

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(start.shape)
        logits_NK = rows_NP @ weights[:-1] + weights[-1]
        logits_NK -= logits_NK.max(1, keepdims=True)
        chances_NK = np.exp(logits_NK)
        sums_N = chances_NK.sum(1)
        loss = float((np.log(sums_N) - logits_NK[places, classes]).mean())
        chances_NK /= sums_N[:, None]
        chances_NK[places, classes] -= 1
        chances_NK /= count
        gradient = np.empty_like(weights)
        gradient[:-1] = transposed_PN @ chances_NK + penalty * weights[:-1]
        gradient[-1] = chances_NK.sum(0)
        return loss + penalty / 2 * float((weights[:-1] ** 2).sum()), gradient.ravel()

    found: Any = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B",
                          options={"maxiter": _MAX_STEPS, "gtol": _GRADIENT, "ftol": _NO_PROGRESS})  # fmt: skip
    return found.x.reshape(start.shape)


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
