import numpy as np

from frostline.selection.scores import Features, resamples
from frostline.selection.scores.contract import held_out
from helpers_selection import class_targets, informative


def test_components_are_the_features_turned():
    rows = informative() * np.array([1, 10, 100, 1, 1, 1])
    found = Features(rows, 6).components
    scaled = (rows - rows.mean(0)) / rows.std(0)
    scaled /= np.sqrt((scaled**2).sum(1).mean())
    np.testing.assert_allclose(found @ found.T, scaled @ scaled.T, atol=1e-10)


def test_wide_features_give_the_same_components_as_their_products():
    rows = np.random.default_rng(0).normal(size=(20, 50))
    found = Features(rows, 50).components
    scaled = (rows - rows.mean(0)) / rows.std(0)
    scaled /= np.sqrt((scaled**2).sum(1).mean())
    np.testing.assert_allclose(found @ found.T, scaled @ scaled.T, atol=1e-8)


def test_features_without_variance_are_seen():
    assert not Features(np.full((20, 4), 0.1), 4).varies
    assert Features(informative(), 6).varies


def test_the_error_of_an_accuracy_is_about_that_of_a_coin():
    targets = class_targets(400, 2)
    guessed = np.where(np.arange(400) % 4 < 3, targets.values, 1 - targets.values)
    found = held_out(guessed, targets)
    assert found.value == 0.75
    assert abs(found.error - np.sqrt(0.75 * 0.25 / 400)) < 0.005
    assert (resamples(400) == resamples(400)).all()


def test_a_perfect_score_is_not_taken_as_certain():
    targets = class_targets(98, 2)
    assert abs(held_out(targets.values, targets).error - 0.01) < 1e-4
