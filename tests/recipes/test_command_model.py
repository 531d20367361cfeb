"""The model of a command."""

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.data import load_arrays
from frostline.demo.demo import build
from frostline.recipes.command_model import classes_of, set_up


@pytest.fixture
def digits(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((6, 1, 32, 32), np.float32), y=np.arange(6) % 3)
    return load_arrays(tmp_path / "x.npz")


def test_the_head_is_new_and_all_else_is_frozen_unless_it_is_named_otherwise(digits):
    model = build()
    assert "as demo:build makes them" in set_up(model, digits, "demo:build", None, None, None)
    assert {name for name, own in model.named_parameters() if own.requires_grad} == {"head.weight", "head.bias"}
    assert model.head.out_features == len(classes_of(digits)) == 3
    model = build()
    set_up(model, digits, "demo:build", None, "body.3", None)
    frozen = {name.rpartition(".")[0] for name, own in model.named_parameters() if not own.requires_grad}
    assert frozen == {
        name for name in ("body.0", "body.1", "body.2", "body.3") if list(model.get_submodule(name).parameters())
    }
    model = build()
    set_up(model, digits, "demo:build", None, None, None, freezes=False)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_targets_that_are_numbers_have_no_classes(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.float32), y=np.array([0.5, 1.5], np.float32))
    with pytest.raises(fl.DataError, match="The targets are not class indices"):
        classes_of(load_arrays(tmp_path / "x.npz"))


def test_random_layers_are_said(digits, capsys):
    set_up(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 2)), digits, "timm:some", None, None, None)
    assert "the frozen layers are random, not pretrained" in capsys.readouterr().err
