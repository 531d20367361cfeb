import numpy as np
import pytest
import torch

from frostline.core.errors import DataError
from frostline.selection.targets import sample_rows, targets_from


def test_whole_numbers_are_classes_and_folds_hold_the_same_share_of_each():
    targets = targets_from(torch.arange(100) % 4 + 3)
    assert (targets.kind, targets.metric, targets.names, targets.baseline) == (
        "classes",
        "accuracy",
        (3, 4, 5, 6),
        0.25,
    )
    for fold in range(5):
        assert np.bincount(targets.values[targets.folds == fold]).tolist() == [5, 5, 5, 5]


def test_imbalanced_classes_are_scored_by_the_mean_over_classes():
    targets = targets_from(torch.tensor([0] * 90 + [1] * 10))
    assert (targets.metric, targets.baseline) == ("balanced accuracy", 0.5)
    assert targets.score(np.zeros(100, int)) == 0.5


def test_rare_classes_are_noted():
    targets = targets_from(torch.tensor([0] * 20 + [1] * 20 + [2] * 2))
    assert "1 of 3 classes have fewer than 5 samples" in targets.notes[0]


def test_columns_of_zeros_and_ones_are_labels_or_classes():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(80, 3, generator=generator) > 0.6).float()
    targets = targets_from(labels)
    assert (targets.kind, targets.metric, targets.num_classes) == ("labels", "mean F1", 3)
    assert targets.score(labels.double().numpy()) == 1.0
    assert targets.score(np.ones((80, 3))) == pytest.approx(targets.baseline)
    assert targets_from(torch.eye(4)[torch.arange(40) % 4]).kind == "classes"


def test_numbers_are_scored_by_explained_variance():
    y = torch.linspace(0, 1, 50)
    targets = targets_from(y[:, None])
    assert (targets.kind, targets.metric, targets.baseline) == ("numbers", "R2", 0.0)
    assert targets.score(y.double().numpy()[:, None]) == 1.0
    assert targets.score(np.full((50, 1), y.mean().item())) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (torch.tensor([0.0, 1.0, float("nan")] * 10), "Some targets are not finite"),
        (torch.zeros(30, dtype=torch.int64), "All samples have the same class"),
        (torch.ones(30, 2), "Every label has the same value for all samples"),
        (torch.full((30,), 2.5), "All samples have the same target"),
        (torch.arange(12) % 3, "There are too few samples to hold some of each class out"),
        (torch.tensor([0, 1, -100] * 10), "Some samples have no label"),
        (torch.zeros(30, 4, 4), "These targets cannot be scored by a linear probe"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(given, what):
    with pytest.raises(DataError, match=what) as caught:
        targets_from(given)
    assert caught.value.do


def test_a_sample_keeps_the_shares_of_classes_and_is_the_same_each_time():
    labels = np.array([0] * 800 + [1] * 200)
    rows = sample_rows(1000, 100, labels, 0)
    assert len(rows) == 100
    assert abs((labels[rows] == 1).sum() - 20) <= 1
    assert (rows == sample_rows(1000, 100, labels, 0)).all()
    assert (sample_rows(30, 100, None, 0) == np.arange(30)).all()
    assert len(set(sample_rows(1000, 50, None, 1))) == 50
