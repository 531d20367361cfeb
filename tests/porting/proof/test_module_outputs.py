import math

import torch
from torch import nn

from frostline.porting.proof.module_outputs import (
    Golden,
    difference,
    further,
    nearest,
    nearest_in_float64,
    outputs_of,
    tolerance_of,
)
from helpers_interpreting import floats


def test_differences_are_relative_to_the_largest_wanted_value():
    wanted = torch.tensor([1.0, -4.0])
    assert math.isclose(difference([wanted + 0.5], [wanted]), 0.125)
    assert difference([], [wanted]) == math.inf
    assert difference([wanted[:1]], [wanted]) == math.inf
    assert difference([wanted * math.nan], [wanted]) == math.inf
    assert difference([wanted, wanted], [wanted]) == 0


def test_a_module_is_run_in_evaluation_and_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    x = floats(2, 3)
    assert nearest(model, [Golden(x, (model[0](x).detach(),))])[0] == 0
    assert model.training
    assert outputs_of(model, floats(2, 4)) is None


def test_the_nearest_golden_is_found_and_each_input_is_run_once():
    calls = []
    model = nn.Identity()
    model.register_forward_hook(lambda *_: calls.append(1))
    x = floats(2, 3)
    error, golden = nearest(model, [Golden(x, (x + 1,)), Golden(x, (x,), "the second")])
    assert (error, golden.kind, len(calls)) == (0, "the second", 1)


def test_further_inputs_are_of_the_same_kind():
    given = {"x": floats(50, 3) * 5 + 2, "ids": torch.arange(6).reshape(2, 3)}
    made = further(given, 0)
    assert abs(float(made["x"].mean()) - 2) < 2
    assert not torch.equal(made["x"], given["x"])
    assert sorted(made["ids"].flatten().tolist()) == list(range(6))
    assert torch.equal(further(given, 0)["x"], made["x"])


def test_halves_are_less_exact():
    assert tolerance_of(nn.Linear(2, 2)) < tolerance_of(nn.Linear(2, 2).half())


def test_outputs_that_are_nan_are_no_agreement():
    assert difference([torch.ones(2)], [torch.full((2,), float("nan"))]) == float("inf")
    assert difference([torch.full((2,), float("nan"))], [torch.ones(2)]) == float("inf")


def test_the_golden_of_a_run_in_float64_is_given_back_as_it_was():
    model, x = nn.Linear(3, 2), torch.rand(4, 3)
    goldens = [Golden(x, (torch.zeros(4, 2),)), Golden(x, (model(x).detach(),))]
    error, golden = nearest_in_float64(model, goldens)
    assert error < 1e-6
    assert golden is goldens[1]
    assert golden.inputs.dtype == torch.float32


def test_distances_are_means_over_all_values():
    from frostline.porting.proof.module_outputs import distance

    model, ones = nn.Identity(), torch.ones(1, 4)
    near = Golden(ones, (ones + torch.tensor([1.0, 0, 0, 0]),))
    assert math.isclose(distance(model, [near]), 0.25 / 1.75)
    assert distance(model, [near, Golden(ones, (ones,))]) == 0
    assert distance(model, [Golden(ones, (ones[:, :2],))]) == math.inf
    assert distance(model, [Golden(ones, (ones, ones))]) == math.inf
    assert distance(nn.Softplus(beta=math.nan), [Golden(ones, (ones,))]) == math.inf
