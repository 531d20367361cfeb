import numpy as np
import torch

from frostline.selection import targets_from
from frostline.selection.scores import Features, neighbours
from helpers_selection import class_targets, informative


def test_clumps_that_no_line_parts_are_told_apart():
    random = np.random.default_rng(0)
    centres = np.array([[3, 3], [-3, -3], [3, -3], [-3, 3]])
    at = np.arange(200) % 4
    rows = centres[at] + random.normal(size=(200, 2))
    targets = targets_from(torch.tensor((at >= 2).astype(np.int64)))
    assert neighbours(Features(rows, 2), targets).value > 0.9


def test_noise_is_at_chance_and_numbers_are_averaged():
    noise = np.random.default_rng(0).normal(size=(150, 10))
    assert abs(neighbours(Features(noise, 10), class_targets(150)).value - 1 / 3) < 0.12
    rows = informative(150)
    numbers = targets_from(torch.tensor(rows[:, :1] * 3))
    assert neighbours(Features(rows, 6), numbers).value > 0.5


def test_labels_are_voted_for():
    rows = informative(150)
    labels = targets_from(torch.tensor((rows[:, :3] > 0.5).astype(np.float64)) + torch.tensor([0.0, 0.0, 0.0]))
    found = neighbours(Features(rows, 6), labels)
    assert set(np.unique(found.predicted)) <= {0, 1}
