import pytest
import torch
from torch import nn

import frostline as fl
from frostline.training import make_loss
from frostline.training.settings import (
    check_settings,
    describe_callable,
    describe_data,
    describe_frozen,
    describe_model,
    describe_optimizer,
    step_options,
)

GOOD = {"epochs": 1, "batch_size": 1, "lr": 1e-9, "patience": None, "precision": "32-true", "devices": 1,
        "has_val": False}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"patience": 1, "has_val": True},
        {"precision": "bf16-mixed"},
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
     ("devices", {"devices": 0}), ("batch_size", {"batch_size": 3, "devices": 2}),
     ("monitor", {"monitor": "all"}), ("monitor", {"monitor": "heal", "precision": "bf16-mixed"})],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_its_name(name, changed):
    with pytest.raises(fl.DataError, match=f"{name} is not (usable|a)") as error:
        check_settings(**{**GOOD, **changed})
    assert error.value.where == f"fit({name}=...)"


STEPS = {"epochs": 3, "accumulation": 1, "warmup": 0.0, "scheduler_interval": "epoch", "ema": None}


def test_options_of_steps_are_described_where_they_are_given():
    assert step_options(**STEPS).described == {}
    assert step_options(**{**STEPS, "warmup": 0.5}).described == {"warmup": 0.5}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accumulation", 0),
        ("accumulation", 1.5),
        ("warmup", -1),
        ("warmup", "long"),
        ("scheduler_interval", "batch"),
        ("ema", 1.0),
        ("ema", 0),
        ("ema", "0.9"),
    ],
)
def test_options_of_steps_that_make_no_sense_are_refused(name, value):
    with pytest.raises(fl.DataError, match=f"{name} is not (usable|a)") as error:
        step_options(**{**STEPS, name: value})
    assert error.value.where == f"fit({name}=...)"


def test_an_average_of_the_first_steps_is_told():
    assert step_options(**STEPS).note(10) is None
    assert step_options(**{**STEPS, "ema": 0.9}).note(100) is None
    assert step_options(**{**STEPS, "ema": 0.999}).note(100) == (
        "After 100 steps, 90% of the averaged weights are still those of the first step; ema=0.955 leaves 1%."
    )


def test_a_warm_up_of_the_whole_run_is_refused():
    with pytest.raises(fl.DataError, match="The warm-up of the learning rate is as long as the run") as error:
        step_options(**{**STEPS, "warmup": 3})
    assert error.value.received == "warmup=3 in a run of 3 epochs"


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


def test_a_model_whose_state_holds_more_than_tensors_is_described():
    class Packed(nn.Linear):  # as quantised layers do
        def _save_to_state_dict(self, destination, prefix, keep_vars):
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[prefix + "dtype"] = torch.qint8

    assert describe_model(nn.Sequential(Packed(2, 2))) != describe_model(nn.Sequential(Packed(2, 3)))


def test_a_model_is_described_by_the_types_of_its_modules_and_its_frozen_values_to_the_bit():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sigmoid())
    fl.freeze(model, through="0")
    described, values = describe_model(model), describe_frozen(model)
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    assert describe_model(model) == described
    assert describe_frozen(model) != values
    for change in (lambda: model.__setitem__(2, nn.ReLU()), lambda: model.append(nn.Dropout())):
        before = describe_model(model)
        change()
        assert describe_model(model) != before


def test_an_optimizer_is_described_as_one_by_name_and_by_what_hooks_into_its_steps():
    parameters = nn.Linear(2, 2).parameters()
    made = torch.optim.SGD(parameters, lr=0.1)
    assert describe_optimizer(made, made) == describe_optimizer("sgd", made) == {"optimizer": "sgd"}
    made.register_step_pre_hook(lambda one, *_: None)
    assert describe_optimizer("sgd", made) == {"optimizer": "sgd", "hooks before each step": "1"}
    assert describe_optimizer(torch.optim.SGD, made)["optimizer"].endswith("SGD")


def test_data_are_described_by_their_numbers_and_their_preparation():
    class Prepared(list):
        fingerprint = "resize 8"

    assert describe_data([1, 2], None) == {"numbers of samples": [2], "preparation of samples": [""]}
    assert describe_data(Prepared([1, 2]), [3]) == {
        "numbers of samples": [2, 1], "preparation of samples": ["resize 8", ""],
    }  # fmt: skip
