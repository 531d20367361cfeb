import numpy as np
import pytest
import torch

import frostline as fl
from helpers_sweep import settings


def test_defaults_are_those_of_fit():
    (one,) = settings([{}])
    assert (one.lr, one.weight_decay, one.dropout, one.optimizer, one.width, one.seed) == (
        1e-3, None, None, "adamw", None, 0)  # fmt: skip
    assert str(one) == "defaults"


def test_a_list_of_mappings_is_a_head_for_each():
    found = settings([{"lr": np.float32(0.5), "optimizer": "sgd"}, {"width": 8, "dropout": 0.5, "seed": 4}], seed=9)
    assert [one.number for one in found] == [0, 1]
    assert (found[0].lr, found[0].optimizer, found[0].seed) == (0.5, "sgd", 9)
    assert (found[1].width, found[1].dropout, found[1].seed) == (8, 0.5, 4)
    assert str(found[0]) == "lr=0.5 optimizer=sgd"


def test_a_mapping_of_lists_is_every_combination():
    found = settings({"lr": [0.1, 0.2], "optimizer": "sgd", "width": (None, 4)})
    assert [(one.lr, one.width) for one in found] == [(0.1, None), (0.1, 4), (0.2, None), (0.2, 4)]
    assert {one.optimizer for one in found} == {"sgd"}


def test_a_width_of_0_is_no_hidden_layer():
    assert settings([{"width": 0}])[0].width is None


def test_a_callable_makes_its_own_optimizer():
    (one,) = settings([{"optimizer": torch.optim.SGD}])
    assert one.optimizer is torch.optim.SGD
    assert str(one) == "optimizer=SGD"
    with pytest.raises(fl.DataError, match="An optimizer that is given as a callable has its own learning rate"):
        settings([{"optimizer": torch.optim.SGD, "lr": 0.1}])


@pytest.mark.parametrize("given", [[], {}, {"lr": []}, ()])
def test_no_setting_is_refused(given):
    with pytest.raises(fl.DataError, match="A sweep needs at least one setting") as caught:
        settings(given)
    assert "pass a list of mappings" in caught.value.do


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(fl.DataError, match="There is no setting named 'learning_rate'") as caught:
        settings([{"lr": 0.1}, {"learning_rate": 0.1}])
    assert caught.value.where == "sweep(settings[1])"
    assert caught.value.do.startswith("use 'lr'; there are")  # the name that others have for it
    with pytest.raises(fl.DataError, match="There is no setting named 'weightdecay'") as caught:
        settings([{"weightdecay": 0.1}])
    assert caught.value.do.startswith("use 'weight_decay'")
    with pytest.raises(fl.DataError, match="There is no optimizer named 'adamm'") as caught:
        settings([{"optimizer": "adamm"}])
    assert "'adam'" in caught.value.do


@pytest.mark.parametrize(
    "given",
    [{"lr": 0}, {"lr": "fast"}, {"lr": float("nan")}, {"weight_decay": -1}, {"dropout": 1}, {"dropout": -0.1},
     {"width": 1.5}, {"width": -1}, {"seed": "x"}, {"optimizer": 3}],
)  # fmt: skip
def test_a_value_that_makes_no_sense_names_its_setting(given):
    with pytest.raises(fl.DataError) as caught:
        settings([{}, given])
    assert f"settings[1]: {next(iter(given))}" in caught.value.where


@pytest.mark.parametrize("given", [3, "lr", [3], [None], torch.ones(3)])
def test_settings_are_mappings(given):
    with pytest.raises(fl.DataError, match="is not a list|A setting is a mapping of names to values"):
        settings(given)


def test_a_solved_head_takes_a_weight_decay_only():
    (one,) = settings([{"optimizer": "probe", "weight_decay": 0.1}])
    assert (one.optimizer, one.weight_decay) == ("probe", 0.1)
    with pytest.raises(fl.DataError, match="A solved head takes a weight decay and nothing else") as caught:
        settings([{"optimizer": "probe", "lr": 0.1, "width": 3}])
    assert caught.value.received == "lr=0.1, width=3"
