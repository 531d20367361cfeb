"""The loss of `fit` and of `frostline fit`."""

from functools import partial

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.data import load_arrays
from frostline.recipes.class_weights import class_weights_of, weighted_loss
from frostline.training import CrossEntropy, DatasetBatches
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


class Kept(torch.utils.data.Dataset):
    """As torchvision's datasets: labels that a transform may change on their way into an item."""

    def __init__(self, name="targets", change=None):
        self.inputs = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
        self.own, self.change = [index % 4 // 3 for index in range(24)], change
        if name is not None:
            setattr(self, name, self.own)

    def __len__(self):
        return len(self.own)

    def __getitem__(self, index):
        label = self.own[index]
        return self.inputs[index], label if self.change is None else self.change(label)


@pytest.mark.parametrize(
    ("dataset", "weights"),
    [(Kept(), [2 / 3, 2.0]), (Kept(change=lambda label: 1 - label), [2.0, 2 / 3]), (Kept(None), [2 / 3, 2.0]),
     (Kept("labels", lambda label: torch.tensor([label + 1])), [24.0 / 3, 4 / 9, 4 / 3])],
    ids="kept transformed not-kept column".split(),
)  # fmt: skip
@pytest.mark.parametrize("collate_fn", [None, torch.utils.data.default_collate], ids="stacked collated".split())
def test_weights_are_balanced_by_the_targets_that_the_items_have(dataset, weights, collate_fn):
    read = partial(DatasetBatches, batch_size=8, collate_fn=collate_fn)
    found = weighted_loss(dataset, "balanced", 0.0, batches_of=read).class_weights
    torch.testing.assert_close(found, torch.tensor(weights))


def test_fit_balances_by_the_targets_of_items(tmp_path, capsys):
    def first_loss(class_weights):
        options = {"epochs": 1, "progress": False, "cache": tmp_path, "class_weights": class_weights}
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2))
        fl.freeze(model, through="0")
        return fl.fit(model, Kept(change=lambda label: 1 - label), **options).history[0].train_loss

    assert first_loss("balanced") == pytest.approx(first_loss([2.0, 2 / 3]))
    assert "the labels of 24 samples are read from their items" in capsys.readouterr().err


def test_targets_that_are_no_classes_cannot_be_balanced():
    for target in (torch.tensor([1, 0]), 0.5, True, {"a": 1}):
        with pytest.raises(fl.DataError, match="balanced by the labels of the samples") as error:
            fl.fit(mlp(), [(torch.randn(4), target)] * 4, class_weights="balanced", progress=False)
        assert "int(label)" in error.value.do
