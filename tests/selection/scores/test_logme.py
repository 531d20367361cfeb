"""LogME against the evidence itself, maximised by a general optimizer over explicit matrices."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from frostline.selection import targets_from
from frostline.selection.scores import Features, logme
from helpers_selection import class_targets, informative


def evidence(rows, target, log_alpha, log_beta):
    """Log of p(y | F) = N(0, I / beta + F F^T / alpha): the definition, without the paper's rearrangement."""
    count = len(target)
    covariance = np.eye(count) / np.exp(log_beta) + rows @ rows.T / np.exp(log_alpha)
    _, logdet = np.linalg.slogdet(covariance)
    return -0.5 * (count * np.log(2 * np.pi) + logdet + target @ np.linalg.solve(covariance, target))


def largest_evidence(rows, target):
    best = max(
        -minimize(lambda p: -evidence(rows, target, *p), start, method="Nelder-Mead",
                  options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}).fun
        for start in ([0.0, 0.0], [2.0, 2.0], [-2.0, 3.0])
    )  # fmt: skip
    return best / len(target)


@pytest.mark.parametrize("width", [3, 6])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_it_is_the_maximum_evidence_of_the_definition(width, spread):
    rows = informative(60, width=width, spread=spread)
    targets = class_targets(60)
    expected = np.mean([largest_evidence(rows, targets.columns()[:, at]) for at in range(3)])
    assert logme(Features(rows, width), targets).value == pytest.approx(expected, abs=2e-4)


def test_it_is_that_for_numbers_and_for_more_features_than_samples():
    random = np.random.default_rng(0)
    rows = random.normal(size=(20, 40))
    numbers = targets_from(torch.tensor(rows[:, 0] + random.normal(size=20)))
    expected = largest_evidence(rows, numbers.values[:, 0])
    assert logme(Features(rows, 40), numbers).value == pytest.approx(expected, abs=1e-3)


def test_better_features_have_a_higher_evidence():
    targets = class_targets(60)
    assert (
        logme(Features(informative(spread=0.2), 6), targets).value
        > logme(Features(informative(spread=1.5), 6), targets).value
    )
