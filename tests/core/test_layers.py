import pytest
from torch import nn

import frostline as fl
from frostline.core.layers import compact_recurrent, has_recurrent, layer_names, matching, resolve


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
