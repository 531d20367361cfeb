import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, source_of

LAYERS = [("in", "Input", {}, ()), ("a", "Conv", {}, ("in",)), ("r", "Relu", {}, ("a",)), ("b", "Conv", {}, ("r",))]


def folded_source():
    units = {
        name: {"weight": numbers(4, 4, 1, 1, seed=at), "bias": numbers(4, seed=at)} for at, name in enumerate("ab")
    }
    return source_of("onnx", units, order="graph", layers=LAYERS)


def network():
    return nn.Sequential(
        nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    )


@torch.no_grad()
def test_norms_become_identities():
    model = network().eval()
    for norm in (model[1], model[4]):
        norm.running_mean.normal_()
        norm.weight.normal_()
    plan = make_plan(folded_source(), "file", model)
    assert plan.notes[-1].endswith("2 norms of the module become identities")
    carry_out(plan, model)
    x = numbers(2, 4, 3, 3)
    plain = nn.functional.conv2d(x, numbers(4, 4, 1, 1), numbers(4)).relu()
    plain = nn.functional.conv2d(plain, numbers(4, 4, 1, 1, seed=1), numbers(4, seed=1))
    assert torch.allclose(model(x), plain, atol=1e-5)


def test_an_identity_is_no_norm_to_train():
    with pytest.raises(PortError, match="BatchNorm was folded into the convolutions of the file"):
        make_plan(folded_source(), "file", network())
