import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, weight_norm

from frostline.porting.units.unit import full_name, is_layer, persistent, source_units, target_units, write
from helpers_porting import numbers, source_of


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 2))
        self.register_buffer("mask", torch.ones(2), persistent=False)
        self.register_buffer("mean", torch.ones(2))
        self.rnn = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
        self.look = nn.MultiheadAttention(2, 1)
        self.again = self.last = nn.Linear(2, 2)


def test_what_the_units_of_a_module_are():
    units = {unit.name: unit for unit in target_units(Own())}
    assert list(units) == ["token", "mean", "rnn:l0", "rnn:l0_reverse", "rnn:l1", "rnn:l1_reverse", "look", "again"]
    assert set(units["rnn:l0"].tensors) == {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
    assert set(units["look"].tensors) == {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}
    assert full_name(units["rnn:l1_reverse"], "bias_ih") == "rnn.bias_ih_l1_reverse"
    assert full_name(units["token"], "token") == "token"
    assert full_name(units["look"], "out_proj.bias") == "look.out_proj.bias"
    assert str(units["again"]) == "again (Linear: weight (2, 2), bias (2,))"


def test_buffers_that_are_not_saved_are_no_part_of_it():
    assert set(persistent(Own())) == {"token", "mean"}
    assert not is_layer(Own())


def test_a_weight_norm_holds_what_its_weight_is_computed_from():
    (unit,) = target_units(nn.Sequential(weight_norm(nn.Linear(2, 3))))
    assert set(unit.tensors) == {"bias", "weight_g", "weight_v"}
    assert full_name(unit, "weight_g") == "0.parametrizations.weight.original0"


def test_a_parametrization_of_another_kind_takes_the_tensor_itself():
    layer = orthogonal(nn.Linear(3, 3))
    (unit,) = target_units(nn.Sequential(layer))
    assert set(unit.tensors) == {"bias", "weight"}
    write(unit, "weight", torch.eye(3))
    assert torch.allclose(layer.weight, torch.eye(3))


def test_tensors_of_one_layer_of_a_file_are_one_unit():
    source = source_of("keras", {"a": {"kernel": numbers(2, 3), "bias": numbers(3)}, "b": {"gamma": numbers(3)}},
                       layers=[("a", "Dense", {"units": 3}, ()), ("b", "Norm", {}, ("a",))])  # fmt: skip
    first, second = source_units(source)
    assert first.kind == "Dense"
    assert first.setting("units") == 3
    assert first.setting("missing", 7) == 7
    assert str(second) == "b (gamma (3,))"
