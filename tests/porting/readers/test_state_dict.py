import pytest
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.readers import state_dict
from frostline.porting.readers.weight_file import WeightFile


@pytest.fixture
def named(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as file:
        yield lambda names, key=None: state_dict.named(file, names, key)


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 1)))


def test_a_unit_is_a_module_and_a_leaf_its_tensor(named):
    names = list(network().state_dict())
    found = named(names)
    assert list(found.places) == names
    assert found.places["0.weight"] == ("0", "weight")
    assert found.places["1.running_mean"] == ("1", "running_mean")
    assert found.places["2.0.bias"] == ("2/0", "bias")
    assert (dict(found.dropped), found.notes) == ({}, ())


def test_what_a_wrapper_puts_in_front_is_taken_off(named):
    plain = [place for _, place in named(list(network().state_dict())).places.items()]
    for wrapped in (nn.DataParallel(network()), nn.ModuleDict({"model": nn.ModuleDict({"net": network()})})):
        found = named(list(wrapped.state_dict()))
        assert list(found.places.values()) == plain
        assert "were removed from the names" in found.notes[0]


def test_a_compiled_layer_inside_is_the_layer(named):
    model = network()
    model[2] = nn.ModuleDict({"_orig_mod": model[2]})  # the names of torch.compile, which takes seconds
    found = named(list(model.state_dict()))
    assert found.places["2._orig_mod.0.weight"] == ("2/0", "weight")
    assert found.notes == ("The prefixes '_orig_mod' of wrappers were removed from the names.",)


def test_a_name_that_only_some_tensors_share_stays(named):
    found = named(["model.a.weight", "head.weight"])
    assert found.places["model.a.weight"] == ("model/a", "weight")
    assert named(["model.weight", "model.bias"]).places["model.weight"] == ("model", "weight")


def test_a_moving_average_beside_the_weights_is_dropped_and_said(named):
    found = named(["net.a.weight", "ema.a.weight", "ema.decay"])
    assert set(found.places.values()) == {("a", "weight")}
    assert dict(found.dropped) == {"ema.a.weight": "moving average", "ema.decay": "moving average"}
    assert "2 tensors are moving averages" in found.notes[0]
    alone = named(["ema.a.weight", "ema.a.bias"])
    assert alone.places["ema.a.weight"] == ("a", "weight")
    assert not alone.dropped


def test_the_factors_of_a_weight_norm_belong_to_their_layer(named):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)))
    found = named(list(model.state_dict()))
    assert {unit for unit, _ in found.places.values()} == {"0"}
    assert found.places["0.parametrizations.weight.original0"] == ("0", "parametrizations.weight.original0")


def test_names_without_dots_and_empty_ones_are_names(named):
    assert dict(named(["weight", "a.", "."]).places) == {"weight": ("", "weight"), "a.": ("a", ""), ".": ("", "")}
    assert dict(named([]).places) == {}
    assert dict(named(["_orig_mod"]).places) == {"_orig_mod": ("", "")}


def test_two_tensors_of_one_name_are_refused(named):
    with pytest.raises(PortError, match="damaged") as caught:
        named(["a.b.weight", "a._orig_mod.b.weight"])
    assert caught.value.received == "two tensors named 'a/b.weight' after the prefixes of wrappers were removed"
