"""H-score against its definition, with explicit matrices in float64."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from frostline.selection import targets_from
from frostline.selection.scores import Features, hscore, regularized_hscore
from helpers_selection import class_targets, informative


def class_means(rows, classes):
    return np.stack([rows[classes == c].mean(0) for c in classes])


def by_definition(rows, classes):
    return np.trace(np.linalg.pinv(np.cov(rows, rowvar=False)) @ np.cov(class_means(rows, classes), rowvar=False))


def regularized_by_definition(rows, classes):
    fitted = LedoitWolf().fit(rows)
    between = np.cov(class_means(rows, classes), rowvar=False)
    return np.trace(np.linalg.inv(fitted.covariance_) @ ((1 - fitted.shrinkage_) * between))


@pytest.mark.parametrize(("count", "width"), [(60, 6), (200, 20), (30, 12)])
def test_both_are_the_formulas_of_their_papers(count, width):
    rows, targets = informative(count, width=width, spread=0.7), class_targets(count)
    assert hscore(Features(rows, width), targets).value == pytest.approx(by_definition(rows, targets.values), rel=1e-9)
    expected = regularized_by_definition(rows, targets.values)
    assert regularized_hscore(Features(rows, width), targets).value == pytest.approx(expected, rel=1e-9)


def test_features_that_depend_on_each_other_are_taken_by_the_pseudoinverse():
    rows, targets = informative(60, width=5), class_targets(60)
    rows = np.hstack([rows, rows[:, :2] * 3])
    assert hscore(Features(rows, 7), targets).value == pytest.approx(by_definition(rows, targets.values), rel=1e-6)


def test_with_as_many_features_as_samples_only_the_regularized_one_tells_noise_from_signal():
    targets = class_targets(40, 2)
    random = np.random.default_rng(0)
    noise, signal = random.normal(size=(40, 60)), random.normal(size=(40, 60))
    signal[:, 0] += 6 * targets.values
    plain = [hscore(Features(rows, 60), targets).value for rows in (noise, signal)]
    assert plain == pytest.approx([1.0, 1.0], abs=1e-6)
    regular = [regularized_hscore(Features(rows, 60), targets).value for rows in (noise, signal)]
    assert regular[1] > 1.2 * regular[0]


def test_labels_are_averaged_and_numbers_have_none():
    rows = informative(60)
    columns = (rows[:, :2] > 0.5).astype(np.float64)
    columns[0] = 1
    labels = targets_from(torch.tensor(columns))
    expected = np.mean([by_definition(rows, column.astype(int)) for column in columns.T])
    assert hscore(Features(rows, 6), labels).value == pytest.approx(expected, rel=1e-9)
    numbers = targets_from(torch.tensor(rows[:, 0]))
    assert hscore(Features(rows, 6), numbers) is None
    assert regularized_hscore(Features(rows, 6), numbers) is None
