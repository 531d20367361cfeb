"""What follows from arguments, labels and one batch of outputs is refused before anything is computed or deleted."""

import hashlib

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from helpers_fit import D, data, fit, mlp


def single() -> nn.Module:
    """One number a sample."""
    return nn.Sequential(nn.Linear(D, 4), nn.Linear(4, 1))


ONE_CLASS = TensorDataset(torch.randn(8, D), torch.ones(8).long())
NUMBERS = TensorDataset(torch.randn(48, D), torch.randn(48, 2))
CONSTANT = TensorDataset(torch.randn(8, D), torch.ones(8, 2))
BEYOND = TensorDataset(torch.randn(8, D), torch.tensor([0, 1, 2, 0, 1, 0, 1, 0]))
REFUSED = {
    "top5 of two classes": ({"metric": "top5"}, "top5 needs more classes"),
    "the second of several metrics": ({"metric": ["accuracy", "top9"]}, "top9 needs more classes"),
    "a metric of a mapping": ({"metric": {"a": lambda output, target: 0.5, "b": "top3"}}, "top3 needs more classes"),
    "auroc of one class": ({"metric": "auroc", "val": ONE_CLASS}, "AUROC needs validation samples of two classes"),
    "r2 of classes": ({"metric": "r2"}, "R2 compares one number with one number"),
    "r2 of constant targets": (
        {"metric": "r2", "train": NUMBERS, "val": CONSTANT, "loss": "mse"}, "R2 needs validation targets that differ"),
    "accuracy of numbers": (
        {"metric": "accuracy", "train": TensorDataset(torch.randn(48, D), torch.randn(48)), "loss": "mse",
         "val": TensorDataset(torch.randn(8, D), torch.randn(8)), "model": single},
        "Cross entropy needs class indices"),
    "the loss of other targets": ({"loss": "mse"}, "Target and output have different shapes"),
    "a torch loss of all pairs": (
        {"train": TensorDataset(torch.randn(48, D), torch.randn(48)), "val": None, "loss": nn.L1Loss(),
         "model": single}, "compare every output with every target"),
    "bce of classes": (
        {"train": TensorDataset(torch.randn(48, D), torch.full((48, 2), 3.0)), "val": None, "loss": "bce"},
        "A target is no probability"),
    "a label of the validation data": ({"val": BEYOND}, "label is outside of the range"),
    "the name of a scheduler": ({"scheduler": "cosin"}, "no scheduler named"),
    "the name of an optimizer": ({"optimizer": "adamm"}, "no optimizer named"),
    "patience without validation data": ({"patience": 2, "val": None}, "patience is not usable"),
}  # fmt: skip
WAYS = {"cached": {}, "uncached": {"cache": False}, "nothing frozen": {"freeze": None}}


def files(folder):
    """What lies there; a proof that a split has passed stays true, and may be added."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "proofs"]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", REFUSED)
def test_the_run_that_would_be_overwritten_is_as_it_was(tmp_path, what, way):
    options, text = REFUSED[what]
    options = dict(options)
    model = options.pop("model", mlp)()
    fit(mlp(), freeze="2", epochs=1, out=tmp_path)
    before = files(tmp_path)
    layer = "2" if len(model) > 2 else "0"
    wanted = {"train": data(), "val": data(12), "freeze": layer, "epochs": 1, "out": tmp_path, "overwrite": True,
              **WAYS[way], **options}  # fmt: skip
    with pytest.raises(fl.DataError, match=text):
        fit(model, **wanted)
    assert files(tmp_path) == before


def test_the_frozen_part_has_run_on_no_more_than_the_samples_of_the_proof(tmp_path):
    model, rows = mlp(), []
    model[0].register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    with pytest.raises(fl.DataError, match="top5 needs more classes"):
        fit(model, data(480), data(120), freeze="2", epochs=1, metric="top5", cache=tmp_path)
    assert sum(rows) < 480
    assert not list(tmp_path.rglob("*.safetensors"))


def test_metrics_of_a_cached_dataset_are_checked_as_well(tmp_path):
    model = mlp()
    fl.freeze(model, through="2")
    split = fl.split(model, data().tensors[0][:4])
    cached = fl.FeatureCache(tmp_path / "cache").fill(split, data(), progress=False)
    fit(split.head, cached, cached, epochs=1, out=tmp_path / "run")
    before = files(tmp_path)
    with pytest.raises(fl.DataError, match="top5 needs more classes"):
        fit(split.head, cached, cached, epochs=1, out=tmp_path / "run", overwrite=True, metric="top5")
    assert files(tmp_path) == before


def test_a_metric_of_the_callers_own_is_not_called_before_there_is_a_validation():
    calls = []
    fit(mlp(), data(), data(12), epochs=2, freeze="2", metric=lambda output, target: calls.append(len(target)) or 0.5,
        cache=False)  # fmt: skip
    assert calls == [12, 12]
