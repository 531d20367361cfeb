import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from frostline.selection import targets_from
from frostline.selection.scores import Features, reaches


def features(random, labels, width, strength):
    """Noise, and a direction of strength by which the classes differ."""
    rows = random.normal(size=(len(labels), width))
    rows[:, 0] += strength * labels
    return Features(rows, width)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("count", "width"), [(40, 6), (24, 40)])
def test_it_is_ridge_regression_with_every_sample_left_out_in_turn(random, count, width):
    labels = np.arange(count) % 3
    lines = [features(random, labels, width, 1.0), features(random, labels, width, 0.5)]
    targets = targets_from(torch.tensor(labels))
    low, high = reaches(lines, targets)
    columns = targets.columns()
    for reach, parts in ((low, lines[::-1]), (high, lines[1:])):
        rows = np.concatenate([one.components for one in parts], 1)
        mean = (rows**2).sum() / count
        best = -np.inf
        for power in np.arange(-4, 2.5, 0.5):
            predicted = np.empty_like(columns)
            for out in range(count):
                kept = np.arange(count) != out
                model = Ridge(alpha=10**power * mean, solver="svd").fit(rows[kept], columns[kept])
                predicted[out] = model.predict(rows[out : out + 1])
            best = max(best, float((1 - ((columns - predicted) ** 2).mean(0) / columns.var(0)).mean()))
        assert reach.value == pytest.approx(best, abs=1e-9)
        assert reach.losses.mean() == pytest.approx(1 - reach.value)


def test_a_line_keeps_what_lines_above_it_hold(random):
    labels = np.arange(300) % 2
    strong, weak = features(random, labels, 5, 4.0), features(random, labels, 5, 0.0)
    low, middle, none, top = reaches([weak, strong, None, weak], targets_from(torch.tensor(labels)))
    assert none is None
    assert top.value < 0.1
    assert middle.value > 0.7
    assert abs(low.value - middle.value) < 0.05
    apart, error = top.behind(middle)
    assert apart == pytest.approx(middle.value - top.value)
    assert 0 < error < 0.1
    assert middle.behind(middle) == (0.0, 0.0)


def test_labels_and_numbers_are_explained_as_well(random):
    rows = random.normal(size=(200, 4))
    one = Features(rows, 4)
    numbers = targets_from(torch.tensor(rows[:, 0] * 1000 + 5))
    assert reaches([one], numbers)[0].value > 0.99
    labels = torch.tensor((rows[:, :2] > 0).astype(np.float32))
    assert 0.5 < reaches([one], targets_from(labels))[0].value < 0.8


def test_a_column_that_does_not_vary_counts_for_nothing(random):
    rows = random.normal(size=(100, 4))
    both = np.stack([rows[:, 0], np.full(100, 3.0)], 1)
    found = reaches([Features(rows, 4)], targets_from(torch.tensor(both)))[0]
    assert found.value > 0.99


def test_many_samples_are_solved_in_the_space_of_the_features(random):
    labels = np.arange(5000) % 2
    lines = [features(random, labels, 8, 1.0) for _ in range(3)]
    assert reaches(lines, targets_from(torch.tensor(labels)))[0].value > 0.3
