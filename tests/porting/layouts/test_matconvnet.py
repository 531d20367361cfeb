import torch
from torch import nn

from frostline.porting.execution import carry_out
from frostline.porting.plan import make_plan
from helpers_porting import numbers, source_of


@torch.no_grad()
def test_filters_moments_and_the_convolution_that_is_a_linear_layer():
    moments = torch.stack([numbers(4), numbers(4, seed=1) + 1], 1)
    units = {"conv": {"filters": numbers(2, 3, 5, 4), "biases": numbers(4)},
             "norm": {"multipliers": numbers(4), "biases": numbers(4), "moments": moments},
             "fc": {"filters": numbers(2, 2, 4, 3), "biases": numbers(3)}}  # fmt: skip
    model = nn.ModuleList([nn.Conv2d(5, 4, (2, 3)), nn.BatchNorm2d(4), nn.Linear(16, 3)])
    carry_out(make_plan(source_of("matconvnet", units), "file", model), model)
    assert torch.equal(model[0].weight, numbers(2, 3, 5, 4).permute(3, 2, 0, 1))
    assert torch.allclose((model[1].running_var + 1e-4).sqrt(), moments[:, 1])
    x = numbers(1, 4, 2, 2)
    plain = nn.functional.conv2d(x, numbers(2, 2, 4, 3).permute(3, 2, 0, 1), numbers(3))
    assert torch.allclose(model[2](x.flatten(1)), plain[:, :, 0, 0], atol=1e-5)
