import pytest
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.plan.unread_tensors import remedy
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import numbers, source_of


def advice(framework, leaves, module, name="fc"):
    return remedy(source_units(source_of(framework, {name: leaves})), target_units(nn.ModuleDict({"own": module})))


def test_a_name_that_is_not_known_is_named_with_those_that_are():
    found = advice("tensorflow", {"mat": numbers(8, 8), "bias": numbers(8)}, nn.Linear(8, 8))
    assert found.startswith("'mat' of 'fc' is no known name for the tensors of a layer such as 'own' (Linear)")
    assert "'fc/kernel', 'fc/bias' if their axes end in (in, out)" in found
    assert "'own.weight', 'own.bias' if they have the shapes of the module" in found


@pytest.mark.parametrize(
    ("leaves", "module", "names"),
    [({"a": numbers(4), "b": numbers(4)}, nn.LayerNorm(4), "'fc/gamma', 'fc/beta'"),
     ({"t": numbers(5, 4)}, nn.Embedding(5, 4), "'fc/embeddings'"),
     ({"f": numbers(3, 3, 2, 4), "c": numbers(4)}, nn.Conv2d(2, 4, 3), "'fc/kernel', 'fc/bias'"),
     ({"g": numbers(4), "b": numbers(4), "m": numbers(4), "v": numbers(4)}, nn.BatchNorm1d(4),
      "'fc/gamma', 'fc/beta', 'fc/moving_mean', 'fc/moving_variance'")],
)  # fmt: skip
def test_names_are_those_of_the_type_of_the_layer(leaves, module, names):
    assert f"as {names} if" in advice("numpy", leaves, module)


def test_shapes_that_are_not_known_are_named():
    found = advice("mxnet", {"weight": numbers(12), "bias": numbers(12)}, nn.LayerNorm((3, 4)))
    assert found.startswith("'fc' and 'own' hold as many numbers in other shapes")
    assert "as 'own.weight', 'own.bias'" in found


@pytest.mark.parametrize(
    ("leaves", "module"),
    [({"kernel": numbers(8, 4)}, nn.Linear(8, 8)), ({"mat": numbers(8, 4)}, nn.Linear(8, 8, bias=False)),
     ({"weight": numbers(8, 4)}, nn.Linear(8, 4, bias=False)), ({"a": numbers(4)}, nn.PReLU(3))],
)  # fmt: skip
def test_networks_that_differ_are_not_taken_for_unknown_names(leaves, module):
    assert advice("torch", leaves, module) == ""


def test_the_refusal_says_so():
    source = source_of("tensorflow", {"fc": {"mat": numbers(8, 8), "bias": numbers(8)}})
    with pytest.raises(PortError, match="no partner") as caught:
        make_plan(source, "file", nn.ModuleDict({"own": nn.Linear(8, 8)}))
    assert caught.value.do.startswith("'mat' of 'fc' is no known name")
    with pytest.raises(PortError, match="no partner") as caught:
        make_plan(source, "file", nn.ModuleDict({"own": nn.Linear(8, 7)}))
    assert caught.value.do.startswith("build the module like the network of the file")
