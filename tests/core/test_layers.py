import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.layers import (
    check_initialized,
    compact_recurrent,
    default_dtype_of,
    first_name,
    frozen_modules,
    has_recurrent,
    is_pinned,
    layer_names,
    matching,
    resolve,
    submodule,
    unwrapped,
)


def model() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2))


def test_names_come_in_the_order_of_registration_without_the_model_itself():
    assert layer_names(model()) == ["0", "0.0", "0.1", "1"]


def test_a_name_is_a_layer():
    net = model()
    assert resolve(net, "0.1") is net[0][1]


@pytest.mark.parametrize("name", ["2", "", "0.1.weight"])
def test_a_name_that_is_no_layer_lists_the_nearest(name):
    with pytest.raises(fl.LayerNotFound, match=f"no layer named {name!r}") as error:
        resolve(model(), name)
    assert "for example '" in error.value.do
    with pytest.raises(fl.LayerNotFound) as error:
        resolve(nn.Identity(), name)
    assert error.value.do == "pass a model with layers."


def test_globs_take_all_that_they_match_and_each_must_match():
    names = ["a.0", "a.1", "b"]
    assert matching(["a.*", "b"], names) == {"a.0", "a.1", "b"}
    assert matching([], names) == set()
    with pytest.raises(fl.LayerNotFound, match="No layer or parameter matches the pattern 'c.\\*'"):
        matching(["b", "c.*"], names)


def test_recurrent_layers_are_known_and_compacted_in_place():
    net = nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2))
    assert has_recurrent(net)
    assert not has_recurrent(net[0])
    kept = list(net.parameters())
    compact_recurrent(net)
    assert all(mine is theirs for mine, theirs in zip(net.parameters(), kept, strict=True))


def test_a_module_without_weights_is_frozen_only_with_what_holds_it():
    net = model()
    assert frozen_modules(net) == set()
    net[0].requires_grad_(False)
    assert frozen_modules(net) == {id(net[0]), id(net[0][0]), id(net[0][1])}
    fl.freeze(net, through="0.0")
    assert is_pinned(net[0][0])
    assert not is_pinned(net[1])


def test_wrappers_are_taken_off_from_outside_to_inside():
    net = model()
    wrapped = nn.DataParallel(torch.optim.swa_utils.AveragedModel(net))
    inner, names = unwrapped(wrapped)
    assert names == ("DataParallel", "AveragedModel")
    assert inner is wrapped.module.module
    assert unwrapped(net) == (net, ())
    assert unwrapped(torch.compile(net, backend="eager")) == (net, ("torch.compile",))

    class DataParallel(nn.Module):  # of somebody else, with nothing inside
        module = None

    other = DataParallel()
    assert unwrapped(other) == (other, ())


def test_the_default_dtype_that_fits():
    assert default_dtype_of(model()) == torch.float32
    assert default_dtype_of(model().double()) == torch.float64
    mixed = nn.Sequential(nn.Linear(2, 2).double(), nn.Linear(2, 2))
    assert default_dtype_of(mixed) == torch.float32
    assert default_dtype_of(nn.Identity()) == torch.float32


def test_a_lazy_layer_is_named():
    check_initialized(model(), "here")
    with pytest.raises(fl.DataError, match="lazy layer has no weights yet") as error:
        check_initialized(nn.Sequential(nn.Linear(2, 2), nn.LazyBatchNorm1d(affine=False)), "here")
    assert error.value.received.startswith("1.running_mean: ")


def test_a_shared_layer_has_a_first_name():
    shared = nn.Linear(2, 2)
    net = nn.ModuleDict({"a": shared, "b": shared})
    assert first_name(net, resolve(net, "b")) == "a"
    assert layer_names(net) == ["a", "b"]


@pytest.mark.parametrize("name", [3, None, ["0"], {"0": 1}, b"0"])
def test_what_is_no_text_is_no_name_of_a_layer(name):
    with pytest.raises(fl.LayerNotFound, match="no layer named"):
        resolve(model(), name)


@pytest.mark.parametrize("name", ["to", "train", "eval", "float", "type", "children", "apply", "state_dict"])
def test_a_module_may_have_the_name_of_a_method(name):
    model = nn.Module()
    inner = nn.Sequential(nn.ReLU())
    setattr(model, name, inner)
    assert submodule(model, name) is inner
    assert submodule(model, f"{name}.0") is inner[0]
    assert submodule(model, "") is model
