import torch
from torch import nn

from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, source_of


def test_a_norm_and_the_scale_behind_it_are_one_layer():
    units = {
        "conv": {"weight": numbers(2, 2, 1, 1)}, "bn": {"mean": numbers(2), "variance": numbers(2, seed=1)},
        "scale": {"gamma": numbers(2, seed=2), "beta": numbers(2, seed=3)}, "slope": {"slope": numbers(2, seed=5)},
        "fc": {"weight": numbers(2, 2), "bias": numbers(2)},
    }  # fmt: skip
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2), nn.PReLU(2), nn.Linear(2, 2))
    carry_out(make_plan(source_of("caffe", units), "file", model), model)
    assert torch.equal(model[1].weight, numbers(2, seed=2))
    assert torch.equal(model[1].running_var, numbers(2, seed=1))
    assert torch.equal(model[2].weight, numbers(2, seed=5))
    assert torch.equal(model[3].weight, numbers(2, 2))
