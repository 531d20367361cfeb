import pytest
import torch.nn.functional as F
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, x


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
