import pytest
from torch import nn

from frostline.porting.assignment.class_names import of_named_types
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import numbers, source_of

NORMS = {"ln": nn.LayerNorm(4), "inn": nn.InstanceNorm2d(4, affine=True), "gn": nn.GroupNorm(2, 4)}


def found(names, framework, norms=NORMS):
    candidates = {name: set(norms) for name in names}
    leaves = {"scale": numbers(4), "bias": numbers(4)}
    sources = {unit.name: unit for unit in source_units(source_of(framework, dict.fromkeys(names, leaves)))}
    return of_named_types(candidates, sources, {unit.name: unit for unit in target_units(nn.ModuleDict(norms))})


@pytest.mark.parametrize(
    ("framework", "names"),
    [("flax", ["a/GroupNorm_0", "b/LayerNorm_0", "InstanceNorm_3"]),
     ("haiku", ["group_norm", "layer_norm_2", "instance_norm"])],
)  # fmt: skip
def test_names_of_classes_tell_the_type(framework, names):
    assert found(names, framework) == dict(zip(names, ({"gn"}, {"ln"}, {"inn"}), strict=True))


@pytest.mark.parametrize(
    ("framework", "names"),
    [
        ("torch", ["GroupNorm_0", "LayerNorm_0", "InstanceNorm_0"]),  # names of somebody's own
        ("flax", ["GroupNorm_0", "LayerNorm_0", "mine"]),
        ("flax", ["GroupNorm_0", "LayerNorm_0", "LayerNorm_1"]),  # the module has one LayerNorm
        ("keras", ["group_normalization", "layer_normalization", "norm"]),
    ],
)
def test_names_that_do_not_fit_the_whole_group_tell_nothing(framework, names):
    assert found(names, framework) == {name: set(NORMS) for name in names}


def test_two_norms_of_one_type_stay_candidates_for_each_other():
    norms = {"a": nn.LayerNorm(4), "b": nn.LayerNorm(4), "c": nn.GroupNorm(2, 4)}
    names = ["LayerNorm_0", "LayerNorm_1", "GroupNorm_0"]
    assert found(names, "flax", norms) == {"LayerNorm_0": {"a", "b"}, "LayerNorm_1": {"a", "b"}, "GroupNorm_0": {"c"}}


def test_a_plan_takes_them_as_names():
    leaves = {"scale": numbers(4), "bias": numbers(4)}
    source = source_of("flax", {"GroupNorm_0": leaves, "LayerNorm_0": leaves})
    module = nn.ModuleDict({"ln": nn.LayerNorm(4), "gn": nn.GroupNorm(2, 4)})
    made = make_plan(source, "file", module)
    assert {step.source.name: step.target.name for step in made.steps} == {"GroupNorm_0": "gn", "LayerNorm_0": "ln"}
    assert make_plan(source, "file", module, has_names=False).opened
