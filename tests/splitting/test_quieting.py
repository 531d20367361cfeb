import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, two_dropouts, x


def test_noise_that_feeds_frozen_layers_is_named():
    model = nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5), nn.Linear(D, D), nn.Linear(D, 2))
    for name in ("0", "2"):
        model.get_submodule(name).requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="'1' draws random numbers and feeds frozen layers") as error:
        fl.split(model, x(4))
    assert "frostline.freeze" in error.value.do
    fl.freeze(model, modules=[model[1]])
    check(model, x(4))


def test_functional_noise_in_a_mixed_module_is_turned_off_and_said():
    model = Net(lambda m, x: m.high(m.mid(F.dropout(m.low(x), 0.5, m.training))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    split = check(model, x(4), names=["mid"])
    assert any("inference mode" in note for note in split.explain().notes)


def test_only_the_dropout_that_feeds_frozen_layers_is_left_out():
    model = Net(two_dropouts, mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    split = check(model, x(4), names=["mid"])
    split.head.train()
    features = split.extract(x(5))
    assert not torch.equal(split.head(*features), split.head(*features))


def test_noise_that_is_no_dropout_and_feeds_frozen_layers_is_refused():
    model = Net(lambda m, x: m.high(m.mid(m.low(x) + torch.randn(len(x), 1))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="feed frozen layers") as error:
        fl.split(model, x(4))
    assert "transform" in error.value.do


@pytest.mark.parametrize("drop", [
    lambda h, training: F.dropout(h, 0.5, training),
    lambda h, training: F.dropout(h, p=0.5, training=training),
    lambda h, training: torch.dropout(h, 0.5, training),
    lambda h, training: F.alpha_dropout(h, 0.5, training),
    lambda h, training: F.dropout(h, 0.5, training, inplace=True),
])  # fmt: skip
def test_every_form_of_dropout_can_be_left_out(drop):
    model = Net(lambda m, x: m.high(m.mid(drop(m.low(x), m.training))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    check(model, x(4), names=["mid"])
