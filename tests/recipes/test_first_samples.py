"""Labels, loss and metrics against the outputs for the first samples."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import frostline as fl
from frostline.recipes.first_samples import FirstSamples, refuse_texts
from frostline.training import DatasetBatches
from helpers_fit import D, data, mlp

FABRIC = SimpleNamespace(device=torch.device("cpu"), autocast=nullcontext)


def test_inputs_are_those_of_the_first_samples():
    inputs = FirstSamples("cross_entropy", {}, FABRIC).inputs(DatasetBatches(data(), 4, shuffle=True), 5)
    assert torch.equal(inputs, data().tensors[0][:5])


def test_labels_that_are_no_class_of_the_output_are_refused():
    inputs, labels = data().tensors
    wrong = torch.utils.data.TensorDataset(inputs, labels.index_fill(0, torch.tensor([9]), 2))
    first = FirstSamples("cross_entropy", {"accuracy": "accuracy"}, FABRIC)
    first.check_dataset(mlp(), DatasetBatches(data(), 4), DatasetBatches(data(), 4))
    with pytest.raises(fl.DataError, match=r"dataset\[9\]"):
        first.check_dataset(mlp(), DatasetBatches(wrong, 4), None)


def test_losses_and_metrics_of_torch_read_nothing_but_outputs():
    def own(output, target):
        return F.cross_entropy(output, target)

    found = FirstSamples(own, {"accuracy": "accuracy", "own": own}, FABRIC).readers()
    assert found == [(own, True), (own, False)]
    assert FirstSamples(F.cross_entropy, {}, FABRIC).readers() == []


def test_texts_that_differ_are_no_features():
    refuse_texts({"kind": ["a", "a"], "x": torch.zeros(2, D)}, _any)
    with pytest.raises(fl.DataError, match="The input 'meta.kind' is a text, which cannot be kept") as error:
        refuse_texts({"meta": {"kind": ["a", "b"]}}, _any)
    assert "token ids" in error.value.do


def _any(**inputs):
    """A forward that takes all names."""
