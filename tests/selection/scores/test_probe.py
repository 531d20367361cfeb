import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from frostline.selection import targets_from
from frostline.selection.scores import Features, probe
from helpers_selection import class_targets, informative


def test_informative_features_score_high_and_noise_at_chance():
    targets = class_targets(150)
    assert probe(Features(informative(150), 6), targets).value > 0.9
    noise = np.random.default_rng(0).normal(size=(150, 40))
    assert abs(probe(Features(noise, 40), targets).value - 1 / 3) < 0.12


def test_predictions_are_held_out():
    noise = np.random.default_rng(0).normal(size=(40, 200))  # a probe could learn all of these by heart
    assert probe(Features(noise, 200), class_targets(40, 2)).value < 0.75


def test_regularisation_is_chosen_on_training_samples_alone():
    targets = class_targets(100, 2)
    rows = informative(100, 2, width=30, spread=1.0)
    before = probe(Features(rows, 30), targets).predicted
    changed = targets.values.copy()
    held = targets.folds == 0
    changed[held] = 1 - changed[held]
    other = probe(Features(rows, 30), targets.__class__(**{**vars(targets), "values": changed})).predicted
    assert (before[held] == other[held]).all()  # what is held out never reaches its own prediction


def test_numbers_and_labels_are_predicted_by_ridge_regression():
    rows = informative(120)
    weights = np.array([1.0, -2.0, 0.5, 0, 0, 0])
    numbers = targets_from(torch.tensor(rows @ weights))
    assert probe(Features(rows, 6), numbers).value > 0.99
    labels = targets_from(torch.tensor((rows[:, :3] > 0.5).astype(np.float64)) * torch.tensor([1.0, 1.0, 0.0])
                          + torch.tensor([0.0, 0.0, 1.0]) * (torch.tensor(rows[:, 0]) > 0)[:, None])  # fmt: skip
    found = probe(Features(rows, 6), labels)
    assert found.value > labels.baseline + 0.2
    assert set(np.unique(found.predicted)) <= {0.0, 1.0}


def test_a_class_that_no_training_fold_has_counts_as_missed():
    targets = targets_from(torch.tensor([0] * 30 + [1] * 30 + [2]))
    rows = np.vstack([informative(60, 2), np.full((1, 6), 9.0)])
    found = probe(Features(rows, 6), targets)
    assert found.predicted[-1] != 2


def test_classes_are_predicted_as_by_scikit_learns_logistic_regression():
    targets = class_targets(120)
    features = Features(informative(120, width=30, spread=0.8), 30)
    rows, expected = features.components, np.empty(120, np.int64)
    for fold in range(5):
        out, inner = targets.folds == fold, targets.folds == (fold + 1) % 5
        fits = [LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(rows[~out & ~inner], targets.values[~out & ~inner])
                for c in (1.0, 10.0, 100.0, 1000.0)]  # fmt: skip
        best = max(fits, key=lambda fit: fit.score(rows[inner], targets.values[inner]))
        expected[out] = best.fit(rows[~out], targets.values[~out]).predict(rows[out])
    assert (probe(features, targets).predicted == expected).mean() > 0.97  # fits stop at another place
