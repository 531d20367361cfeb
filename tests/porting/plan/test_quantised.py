from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import frostline as fl
from frostline.core.errors import PortError
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, source_of

FILES = Path(__file__).parents[1] / "files"


def integers(*shape, dtype=torch.int8):
    return torch.ones(shape, dtype=dtype)


def refused(framework, leaves, module, **options):
    with pytest.raises(PortError, match="are stored as integers, as quantised networks have them") as caught:
        make_plan(source_of(framework, {"fc": leaves}), "file", module, **options)
    assert "in float32" in caught.value.do
    return caught.value.received


@pytest.mark.parametrize("is_partial", [False, True])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("framework", ["torch", "onnx", "paddle", "numpy", "mxnet"])
def test_integers_are_not_written_into_parameters(framework, dtype, is_partial):
    others = {"other": nn.Linear(3, 2)} if is_partial else {}
    module = nn.ModuleDict({"fc": nn.Linear(3, 3, bias=False), **others})
    leaves = {"weight": integers(3, 3, dtype=dtype)}
    received = refused(framework, leaves, module, partial=is_partial, hints={"fc": "fc"})
    assert received.startswith(f"'fc/weight' in {str(dtype).removeprefix('torch.')}")


def test_nor_into_those_that_a_layer_computes_nor_into_one_of_several_layers():
    refused("torch", {"weight": integers(3, 3), "bias": numbers(3)}, weight_norm(nn.Linear(3, 3)))
    leaves = {"kernel": integers(3, 3)}
    with pytest.raises(PortError, match="are stored as integers"):
        make_plan(source_of("keras", {"a": leaves, "b": leaves}), "f", nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))


@pytest.mark.parametrize(
    ("framework", "leaves"),
    [
        ("keras", {"0": integers(3, 4), "1": numbers(4), "2": numbers(4)}),
        ("torch", {"weight": integers(4, 3), "SCB": numbers(4)}),
        ("torch", {"weight": integers(6, 1, dtype=torch.uint8), "absmax": numbers(1)}),
        ("torch", {"qweight": integers(1, 4, dtype=torch.int32), "scales": numbers(1, 4)}),
    ],
)
def test_layers_that_fit_nothing_for_their_scales_are_refused_for_their_integers(framework, leaves):
    refused(framework, leaves, nn.Sequential(nn.Linear(3, 4)))


def test_a_partial_port_that_would_write_nothing_names_the_integers_too():
    module = nn.ModuleDict({"fc": nn.Linear(3, 3), "other": nn.Linear(3, 2)})
    refused("torch", {"weight": integers(3, 3), "SCB": numbers(3)}, module, partial=True)


def test_integers_beside_parameters_of_their_form_have_no_partner():
    module = nn.Module()
    module.places, module.fc = nn.Parameter(torch.zeros(1, 4)), nn.Linear(3, 4)
    source = source_of(
        "torch", {"": {"ids": torch.arange(4)[None]}, "fc": {"weight": numbers(4, 3), "bias": numbers(4)}}
    )
    with pytest.raises(PortError, match="no partner"):
        make_plan(source, "file", module)
    made = make_plan(source, "file", module, partial=True, hints={"fc": "fc"})
    assert [step.target.name for step in made.steps] == ["fc"]


def test_biases_beside_integers_do_not_hide_them():
    leaves = {"fc": {"weight": integers(3, 3)}, "b1": {"bias": numbers(3)}}
    with pytest.raises(PortError, match="are stored as integers"):
        make_plan(source_of("onnx", leaves), "file", nn.Sequential(nn.Linear(3, 3)))


def test_integers_that_are_no_weights_stay_what_they_are():
    source = source_of("torch", {"0": {"weight": numbers(3), "bias": numbers(3), "running_mean": numbers(3),
                                       "running_var": numbers(3), "num_batches_tracked": torch.tensor(7)}})  # fmt: skip
    make_plan(source, "file", nn.Sequential(nn.BatchNorm1d(3)))
    module = nn.Module()
    module.register_buffer("table", torch.zeros(4))
    make_plan(source_of("torch", {"": {"table": torch.arange(4)}}), "file", module)
    masks = {"weight": numbers(3, 4), "mask": torch.ones(1, 1, 4, 4, dtype=torch.uint8)}
    with pytest.raises(PortError, match="no partner"):
        make_plan(source_of("torch", {"a": masks}), "file", nn.Sequential(nn.Linear(5, 3)))


@pytest.mark.parametrize("is_partial", [False, True])
def test_a_graph_of_integer_operators_leaves_the_module_as_it_is(is_partial):
    sizes = [(2, 3), (3, 3), (3, 2)]
    module = nn.Sequential(*(nn.Linear(*one, bias=False) for one in sizes))
    before = [one.clone() for one in module.parameters()]
    with pytest.raises(PortError, match="The weights of 'third' are stored as integers") as caught:
        fl.port(FILES / "onnx" / "quantised.onnx", module, partial=is_partial)
    assert caught.value.received.startswith("'integers' in uint8")
    assert all(torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))
