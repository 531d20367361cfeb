"""The loss of `fit` and of `frostline fit`."""

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.data import load_arrays
from frostline.recipes.class_weights import class_weights_of, weighted_loss
from frostline.training import CrossEntropy
from helpers_fit import data, fit, mlp


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
    assert weighted_loss(few, "1,3", 0.0, is_command=True).class_weights.tolist() == [1.0, 3.0]
    with pytest.raises(fl.DataError, match="Label smoothing is a share of probability"):
        weighted_loss(few, None, 1.0)


def test_fit_takes_numbers_in_a_sequence_or_a_tensor():
    data = torch.utils.data.TensorDataset(torch.ones(4, 2), torch.tensor([0, 0, 0, 2]))
    for given in ([1, 2.0, 3], torch.tensor([1.0, 2, 3])):
        assert weighted_loss(data, given, 0.0).class_weights.tolist() == [1.0, 2.0, 3.0]
    torch.testing.assert_close(weighted_loss(data, "balanced", 0).class_weights, torch.tensor([4 / 9, 4 / 3, 4 / 3]))
    ignored = torch.utils.data.TensorDataset(torch.ones(4, 2), torch.tensor([0, 1, 1, -100]))
    torch.testing.assert_close(weighted_loss(ignored, "balanced", 0).class_weights, torch.tensor([1.5, 0.75]))


@pytest.mark.parametrize(("weights", "what"), [([1.0, -1.0], "Every class needs one weight above 0"),
                                               ([], "Every class needs one weight above 0"),
                                               (2.0, "class_weights is not a list"),
                                               (["a"], "class_weights is not a finite number")])  # fmt: skip
def test_weights_that_are_none_are_refused(few, weights, what):
    with pytest.raises(fl.DataError, match=what) as error:
        weighted_loss(few, weights, 0.0)
    assert error.value.where == "fit(class_weights=...)"


@pytest.mark.parametrize("options", [{"class_weights": [1.0, 2.0]}, {"label_smoothing": 0.1}])
def test_another_loss_takes_no_weights(options):
    with pytest.raises(fl.DataError, match="Only cross entropy by name takes weights of classes") as error:
        fl.fit(mlp(), data(), loss="mse", **options)
    assert error.value.received == "loss='mse'"
    with pytest.raises(fl.DataError, match="Only cross entropy by name takes weights of classes") as error:
        fl.fit(mlp(), data(), loss=torch.nn.CrossEntropyLoss(), **options)
    assert error.value.received == "loss=a CrossEntropyLoss"


def test_weights_for_another_number_of_outputs_are_refused_before_anything_is_filled(tmp_path):
    with pytest.raises(fl.DataError, match="do not fit the outputs of the model") as error:
        fit(mlp(), class_weights=[1.0, 2.0, 3.0], freeze="2", cache=tmp_path)
    assert error.value.received == "3 weights, 2 outputs"
    assert not list(tmp_path.rglob("shards/*"))


def test_it_is_the_loss_of_torch():
    output, target = torch.randn(8, 2), torch.arange(8) % 2
    own = weighted_loss(data(), [1.0, 3.0], 0.2)(output, target)
    expected = torch.nn.functional.cross_entropy(output, target, torch.tensor([1.0, 3.0]), label_smoothing=0.2)
    assert torch.equal(own, expected)
