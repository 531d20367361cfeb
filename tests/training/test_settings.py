import pytest
import torch
from torch import nn

import frostline as fl
from frostline.training import make_loss
from frostline.training.settings import (
    check_settings,
    describe_callable,
    describe_model,
    describe_structure,
    describe_values,
)

GOOD = {"epochs": 1, "batch_size": 1, "lr": 1e-9, "patience": None, "precision": "32-true", "devices": 1,
        "has_val": False, "has_clip": False}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"patience": 1, "has_val": True},
        {"precision": "bf16-mixed", "has_clip": True},
        {"precision": "16-mixed"},
        {"monitor": "heal"},
        {"monitor": False},
    ],
)
def test_what_makes_sense_passes(changed):
    check_settings(**{**GOOD, **changed})


@pytest.mark.parametrize(
    ("name", "changed"),
    [("epochs", {"epochs": 0}), ("batch_size", {"batch_size": -1}), ("lr", {"lr": 0.0}), ("lr", {"lr": float("nan")}),
     ("patience", {"patience": 0, "has_val": True}), ("patience", {"patience": 2}), ("precision", {"precision": "8"}),
     ("clip", {"precision": "16-mixed", "has_clip": True}), ("devices", {"devices": 2}),
     ("monitor", {"monitor": "all"}), ("monitor", {"monitor": "heal", "precision": "bf16-mixed"})],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_its_name(name, changed):
    with pytest.raises(fl.DataError, match=f"{name} is not (usable|a)") as error:
        check_settings(**{**GOOD, **changed})
    assert error.value.where == f"fit({name}=...)"


def test_callables_are_described_by_where_they_are_defined():
    assert describe_callable(None) == "None"
    assert describe_callable("adamw") == "adamw"
    assert describe_callable(torch.optim.SGD).endswith("SGD")
    assert describe_callable(nn.MSELoss()) == "torch.nn.modules.loss.MSELoss"
    assert "0x" not in describe_callable(make_loss("mse"))


def test_a_model_is_described_by_what_trains():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    plain = describe_model(model)
    with torch.no_grad():
        model[1].weight += 1
    assert describe_model(model) == plain
    fl.freeze(model, through="0")
    frozen = describe_model(model)
    assert frozen != plain
    model[0] = nn.Linear(2, 3).requires_grad_(False)
    assert describe_model(model) == frozen
    model[1] = nn.Linear(3, 4)
    assert describe_model(model) != frozen


def test_a_structure_is_described_without_its_values_and_values_to_the_bit():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.LeakyReLU(0.1))
    structure, values = describe_structure(model), describe_values(model)
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    assert describe_structure(model) == structure
    assert describe_values(model) != values
    values = describe_values(model)
    model[1].running_mean += 1
    assert describe_values(model) != values
    for change in (lambda: setattr(model[2], "negative_slope", 0.2), lambda: model.append(nn.Dropout()),
                   lambda: setattr(model[1], "momentum", 0.5)):  # fmt: skip
        before = describe_structure(model)
        change()
        assert describe_structure(model) != before
