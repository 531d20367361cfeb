"""The loss of `frostline fit`."""

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.data import load_arrays
from frostline.recipes.class_weights import class_weights_of, weighted_loss
from frostline.training import CrossEntropy


@pytest.fixture
def few(tmp_path):
    path = tmp_path / "few.npz"
    np.savez(path, x=np.zeros((8, 1, 32, 32), np.float32), y=np.array([0, 0, 0, 0, 0, 0, 1, 1]))
    return load_arrays(path)


def test_balanced_weights_of_classes(few):
    torch.testing.assert_close(class_weights_of(few, "balanced"), torch.tensor([8 / 12, 2.0]))


def test_labels_that_no_dataset_names_cannot_be_balanced():
    with pytest.raises(fl.DataError, match="The labels of this dataset are not known before it is read"):
        class_weights_of([(torch.ones(2), 0), (torch.ones(2), 1)], "balanced")


def test_a_loss_without_options_is_plain_cross_entropy(few):
    assert weighted_loss(few, None, 0.0) == "cross_entropy"
    assert isinstance(weighted_loss(few, None, 0.1), CrossEntropy)
    assert weighted_loss(few, "1,3", 0.0).class_weights.tolist() == [1.0, 3.0]
    with pytest.raises(fl.DataError, match="Label smoothing is a share of probability"):
        weighted_loss(few, None, 1.0)
