import pytest
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.blocks import ResetBeforeGRU
from frostline.porting.plan.port_plan import make_plan
from helpers_interpreting import floats, network

GRU = network(("x", "InputLayer", {}, ()), ("rnn", "GRU", {"reset_after": False}, ("x",)),
              rnn__kernel=floats(3, 12), rnn__recurrent_kernel=floats(4, 12), rnn__bias=floats(12))  # fmt: skip


def test_a_gru_that_pytorch_has_not_is_refused_with_the_block_that_is_one():
    with pytest.raises(
        PortError, match="nn.GRU cannot represent 'rnn': its reset gate acts before the product"
    ) as caught:
        make_plan(GRU, "file", nn.GRU(3, 4))
    assert "frostline.porting.blocks.ResetBeforeGRU" in caught.value.do
    (step,) = make_plan(GRU, "file", nn.ModuleDict({"own": ResetBeforeGRU(3, 4)})).steps
    assert step.target.name == "own"
    assert {move.target for move in step.moves} == {"weight_ih", "weight_hh", "bias"}


def test_three_vectors_without_names_are_refused():
    from dataclasses import replace

    bare = network(norm__0=floats(3), norm__1=floats(3), norm__2=floats(3))
    unnamed = replace(bare, tensors=tuple(replace(one, leaf="") for one in bare.tensors))
    with pytest.raises(PortError, match="Three vectors of 'norm' may be scale or shift, mean and variance of a norm"):
        make_plan(unnamed, "file", nn.BatchNorm1d(3))
    other = replace(bare, tensors=tuple(replace(one, leaf="") for one in bare.tensors[:2]))
    with pytest.raises(PortError, match="no partner"):
        make_plan(other, "file", nn.BatchNorm1d(3))


def test_matrices_of_lora_have_to_be_merged_first():
    source = network(fc__kernel=floats(3, 4), fc__lora_kernel_a=floats(3, 2), fc__lora_kernel_b=floats(2, 4))
    with pytest.raises(PortError, match="'fc' has the two matrices of LoRA beside its kernel") as caught:
        make_plan(source, "file.h5", nn.Linear(3, 4))
    assert "save it as .keras or .weights.h5" in caught.value.do


def test_the_nearest_layers_are_named():
    source = network(
        hidden__kernel=floats(8, 16), hidden__bias=floats(16), out__kernel=floats(16, 3), out__bias=floats(3)
    )
    module = nn.ModuleDict({"fc": nn.Linear(16, 5), "hidden": nn.Linear(8, 12), "out": nn.Linear(16, 4)})
    with pytest.raises(PortError, match="Some layers have no partner") as caught:
        make_plan(source, "file", module)
    assert "nearest to 'hidden': 'hidden'; nearest to 'out': 'out'" in caught.value.received


def test_a_module_that_lacks_layers_has_no_nearest_one():
    source = network(hidden__kernel=floats(8, 16), hidden__bias=floats(16), more__kernel=floats(2, 3))
    with pytest.raises(PortError, match="Some layers have no partner") as caught:
        make_plan(source, "file", nn.ModuleDict({"hidden": nn.Linear(8, 16)}))
    assert "nearest" not in caught.value.received
