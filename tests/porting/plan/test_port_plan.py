import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from frostline.core.errors import AmbiguousPortError, DataError, LayerNotFound, PortError
from frostline.porting.plan.port_plan import make_plan
from frostline.recipes.port import port
from helpers_porting import numbers, source_of


def plan(units, module, **options):
    return make_plan(source_of("keras", units, order=options.pop("order", "file")), "file.h5", module, **options)


def dense(*sizes):
    return {f"dense_{at}": {"kernel": numbers(one, other)} for at, (one, other) in enumerate(itertools.pairwise(sizes))}


def test_a_plan_can_be_read():
    made = plan(dense(2, 3, 4), nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4)))
    assert "dense_1 -> 2: no other layer has this type and shape" in str(made)
    assert "2.weight = (in, out) to (out, in)" in str(made)


def test_layers_without_a_partner_are_listed_and_may_be_left_out():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    with pytest.raises(PortError, match="Some layers have no partner with the same type and shape") as caught:
        plan(dense(2, 3, 4), module)
    assert "dense_1 (kernel (3, 4))" in caught.value.received
    assert "1 (Linear: weight (5, 3), bias (5,))" in caught.value.received
    made = plan(dense(2, 3, 4), module, partial=True, hints={"dense_0": "0"})
    assert (made.unused, made.kept) == (("dense_1",), ("1",))


def test_another_number_of_equal_layers_is_refused():
    with pytest.raises(PortError, match="different numbers of layers of the same type and shape"):
        plan(dense(2, 2, 2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))


def test_hints_name_layers_that_exist():
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    made = plan(dense(2, 2, 2), module, hints={"dense_0": "b"})
    assert {step.source.name: step.target.name for step in made.steps} == {"dense_0": "b", "dense_1": "a"}
    with pytest.raises(LayerNotFound, match="The file has no layer with weights named 'dense_9'"):
        plan(dense(2, 2, 2), module, hints={"dense_9": "b"})
    with pytest.raises(LayerNotFound, match="The module has no layer with weights named 'c'"):
        plan(dense(2, 2, 2), module, hints={"dense_0": "c"})


def test_hints_pair_layers_that_fit_each_once():
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 3)})
    with pytest.raises(PortError, match="A hint pairs layers that do not fit"):
        plan(dense(2, 2, 3), module, hints={"dense_0": "b"})
    for hints in ("dense_0", ["a"], {"dense_0": "a", "dense_1": "a"}):
        with pytest.raises(
            DataError, match="Hints are a mapping from layers of the file to layers of the module; each"
        ):
            plan(dense(2, 2, 3), module, hints=hints)


class Flattening(nn.Module):
    def __init__(self, channels, is_first=True):
        super().__init__()
        self.conv, self.out, self.is_first = nn.Conv2d(3, channels, 1), nn.Linear(channels * 16, 2), is_first
        self.pool = nn.AdaptiveAvgPool2d(4)

    def forward(self, x):
        x = self.pool(self.conv(x))
        return self.out((x if self.is_first else x.permute(0, 2, 3, 1)).flatten(1))


def flat_units(channels):
    return {"conv": {"kernel": numbers(1, 1, 3, channels)}, "dense": {"kernel": numbers(channels * 16, 2)}}


def test_the_order_of_a_flatten_is_seen_where_the_module_runs():
    first = plan(flat_units(8), Flattening(8)).steps[1]
    assert "from (4, 4, 8) to (8, 4, 4)" in first.moves[0].text()
    last = plan(flat_units(8), Flattening(8, is_first=False)).steps[1]
    assert last.moves[0].text() == "(in, out) to (out, in)"
    assert "channels" not in last.moves[0].text()


SUBCLASSED = Path(__file__).parents[1] / "files" / "keras_subclassed"


def chain(count):
    return nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(count)))


@pytest.mark.parametrize("name", ["keras3.weights.h5", "tf_keras.h5", "objects"])
def test_a_keras_network_that_is_a_class_has_no_order(name):
    # `first` runs first, `last` last; the file has them by the names of attributes, or as they were made
    with pytest.raises(AmbiguousPortError, match="fit the module in more than one way"):
        port(SUBCLASSED / name, chain(4))


@pytest.mark.parametrize("name", ["chain.weights.h5", "chain"])
def test_a_keras_network_of_a_list_of_layers_has_one(name):
    module = chain(2)
    port(SUBCLASSED / name, module)
    assert torch.equal(module[0].weight, torch.zeros(4, 4))
    assert torch.equal(module[1].weight, torch.ones(4, 4))


def test_a_map_with_as_many_rows_as_channels_is_told_by_its_axes():
    (step,) = plan(flat_units(4), Flattening(4)).steps[1:]
    assert "from (4, 4, 4) to (4, 4, 4), axes (1, 2, 0)" in step.moves[0].text()


def partial(units, module):
    made = plan({name: {"kernel": numbers(*shape)} for name, shape in units.items()}, module, partial=True)
    return {step.source.name: (step.target.name, step.margin) for step in made.steps}, made


def linear(**shapes):
    return nn.ModuleDict({name: nn.Linear(*shape, bias=False) for name, shape in shapes.items()})


def test_in_a_partial_port_one_shape_is_no_evidence():
    units = {"backbone/fc": (4, 8), "aux_discriminator": (8, 8), "head": (8, 3)}
    module = nn.ModuleDict({"backbone": linear(fc=(4, 8)), "rest": linear(projector=(8, 8), head=(8, 5))})
    found, made = partial(units, module)
    assert found == {"backbone/fc": ("backbone.fc", 1.0)}
    assert set(made.unused) == {"aux_discriminator", "head"}
    assert set(made.kept) == {"rest.projector", "rest.head"}
    assert any("hints={'aux_discriminator': 'rest.projector'} assigns it" in note for note in made.notes)


def test_a_partial_port_that_would_write_nothing_is_refused():
    units = {"aux_discriminator": {"kernel": numbers(8, 8)}, "top": {"kernel": numbers(8, 3)}}
    with pytest.raises(PortError, match="nothing would be written") as caught:
        plan(units, linear(projector=(8, 8), other=(8, 5)), partial=True)
    assert "'aux_discriminator' and 'projector'" in caught.value.received
    assert "hints={'aux_discriminator': 'projector'}" in caught.value.do
    assert plan(units, linear(projector=(8, 8), other=(8, 5)), partial=True, hints={"aux_discriminator": "projector"})


def test_a_partial_port_of_the_whole_network_is_told_that_it_is_one():
    units, module = {"a": {"kernel": numbers(8, 7)}, "b": {"kernel": numbers(7, 3)}}, linear(x=(8, 7), y=(7, 3))
    with pytest.raises(PortError, match="nothing would be written") as caught:
        plan(units, module, partial=True)
    assert "leave partial=True out" in caught.value.do
    assert len(plan(units, module).steps) == 2


def test_a_partial_port_of_layers_that_fit_nothing_lists_both_sides():
    with pytest.raises(PortError, match="nothing would be written") as caught:
        plan({"top": {"kernel": numbers(8, 3)}}, linear(other=(8, 5)), partial=True)
    assert "top (kernel (8, 3))" in caught.value.received
    assert "other (Linear: weight (5, 8))" in caught.value.received


def test_in_a_partial_port_a_margin_is_no_larger_than_the_likeness_of_names():
    found, _ = partial({"net/body": (4, 8), "top": (8, 3)}, linear(body=(4, 8), head=(8, 5)))
    assert found == {"net/body": ("body", 0.5)}


def test_in_a_partial_port_what_stands_before_and_after_is_evidence():
    units = {"a": {"kernel": numbers(4, 8)}, "b": {"kernel": numbers(8, 6)}, "c": {"kernel": numbers(6, 3)}}
    layers = [("a", "Dense", {}, ()), ("b", "Dense", {}, ("a",)), ("c", "Dense", {}, ("b",))]
    source = source_of("keras", units, order="graph", layers=layers)

    def pairs(module):
        made = make_plan(source, "file", module, partial=True)
        return {step.source.name: step.target.name for step in made.steps}

    new_head = nn.Sequential(*(nn.Linear(*shape, bias=False) for shape in ((4, 8), (8, 6), (6, 2))))
    assert pairs(new_head) == {"a": "0", "b": "1"}
    other = nn.Sequential(*(nn.Linear(*shape, bias=False) for shape in ((4, 8), (8, 6), (6, 3), (3, 2))))
    assert "c" not in pairs(other)  # it was the head of the file, and something follows here
