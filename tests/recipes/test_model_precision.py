"""Models of half and double precision."""

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.recipes.model_precision import precision_of
from helpers_fit import data, fit, mlp


def test_only_a_model_of_one_other_precision_has_its_inputs_converted():
    assert precision_of(nn.Linear(2, 2)) is None
    assert precision_of(nn.Linear(2, 2).half()) is torch.float16
    assert precision_of(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_gets_its_inputs_in_it_cached_and_uncached(tmp_path, dtype):
    ended = []
    for cache in (tmp_path, False):
        model = mlp().to(dtype)
        fl.freeze(model, through="2")
        fit(model, data(), data(16), cache=cache, epochs=1)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        ended.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))
