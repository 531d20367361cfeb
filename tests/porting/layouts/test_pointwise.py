import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.layouts.pointwise import moves
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import numbers, source_of

DENSE = {"kernel": numbers(3, 5), "bias": numbers(5)}


@pytest.mark.parametrize("framework", ["keras", "flax", "tensorflow"])
@pytest.mark.parametrize(("kind", "axes"), [(nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3)])
def test_a_dense_layer_is_a_convolution_over_one_place(framework, kind, axes):
    module = nn.Sequential(kind(3, 5, 1))
    carry_out(make_plan(source_of(framework, {"dense": DENSE}), "file", module), module)
    values = numbers(2, 3, *range(2, 2 + axes))
    wanted = values.movedim(1, -1) @ DENSE["kernel"] + DENSE["bias"]
    assert torch.allclose(module(values), wanted.movedim(-1, 1), atol=1e-6)


@pytest.mark.parametrize(("kind", "axes"), [(nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3)])
def test_a_convolution_over_one_place_is_a_linear_layer(kind, axes):
    del kind
    conv = {"kernel": DENSE["kernel"].reshape(*(1,) * axes, 3, 5), "bias": DENSE["bias"]}
    module = nn.Sequential(nn.Linear(3, 5))
    carry_out(make_plan(source_of("keras", {"conv": conv}), "file", module), module)
    assert torch.equal(module[0].weight, DENSE["kernel"].T)


def test_the_layout_gives_the_numbers_of_the_file_back():
    (unit,) = source_units(source_of("keras", {"dense": DENSE}))
    (target,) = target_units(nn.Sequential(nn.Conv2d(3, 5, 1)))
    weight, _ = moves(unit, target)
    value = weight.forward((DENSE["kernel"],), target.tensors["weight"])
    assert value.shape == (5, 3, 1, 1)
    assert torch.equal(weight.inverse(value, (DENSE["kernel"],))[0], DENSE["kernel"])
    assert "over one place" in weight.text()


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, (1, 3)), nn.ConvTranspose2d(3, 5, 1), nn.Conv2d(3, 4, 1),
     nn.Conv2d(6, 5, 1, groups=1), nn.Linear(3, 5)],
)  # fmt: skip
def test_other_layers_are_no_such_convolution(layer):
    (unit,) = source_units(source_of("keras", {"dense": DENSE}))
    (target,) = target_units(nn.Sequential(layer))
    assert moves(unit, target) is None


def test_a_convolution_in_groups_is_no_dense_layer():
    (unit,) = source_units(source_of("keras", {"dense": {"kernel": numbers(3, 6)}}))
    (target,) = target_units(nn.Sequential(nn.Conv2d(6, 6, 1, groups=2, bias=False)))
    assert moves(unit, target) is None


def test_a_partner_of_its_own_kind_comes_first():
    """A dense layer and a convolution of one size stay what they are, whatever their order."""
    units = {"a": {"kernel": numbers(4, 4)}, "b": {"kernel": numbers(1, 1, 4, 4)}}
    module = nn.ModuleDict({"c": nn.Conv2d(4, 4, 1, bias=False), "d": nn.Linear(4, 4, bias=False)})
    made = make_plan(source_of("keras", units), "file", module)
    groups = {group.sources: group.targets for group in made.opened}  # how `a` lies is open: nothing runs this module
    assert {step.source.name: step.target.name for step in made.steps} == {"b": "c"}
    assert groups == {("a",): ("d",)}
    with pytest.raises(PortError, match="have no partner"):
        make_plan(source_of("keras", {"a": units["a"]}), "file", module)
