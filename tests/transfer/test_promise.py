import pytest
import torch
from torch import nn

import frostline as fl
from frostline.transfer.promise import FrozenState, check_promise


def frozen():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[1].running_mean.fill_(0.5)
    fl.freeze(model, through="1")
    return model


BREAKS = {
    "a weight": lambda m: m[0].weight.data.add_(1),
    "model.apply": lambda m: m.apply(lambda part: nn.init.ones_(part.weight) if hasattr(part, "weight") else None),
    "update_bn": lambda m: torch.optim.swa_utils.update_bn([torch.randn(4, 3)], m),
    "a buffer": lambda m: m[1].running_var.mul_(2),
    "a mode": lambda m: setattr(m[1], "training", True),
    "another layer": lambda m: m.__setitem__(1, nn.SyncBatchNorm.convert_sync_batchnorm(m[1])),
}


@pytest.mark.parametrize("name", BREAKS)
def test_whatever_moves_in_the_frozen_part_is_named(name):
    model = frozen()
    state = FrozenState(model)
    state.check()
    with torch.no_grad():
        BREAKS[name](model)
    with pytest.raises(fl.FrostlineError, match="The frozen part changed during training"):
        state.check()


def test_training_the_rest_and_a_second_freeze_change_nothing():
    model = frozen()
    state = FrozenState(model)
    model.train()
    model[2].weight.data.add_(1)
    fl.freeze(model, through="1")
    state.check()


def test_an_embedding_that_rewrites_its_weight_cannot_be_frozen_until_it_is_scaled():
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=0.5), nn.Linear(3, 2))
    with pytest.raises(fl.DataError, match="cannot be frozen") as error:
        fl.freeze(model, through="0")
    assert model[0].weight.requires_grad
    assert "renorm_" in error.value.do
    keys = torch.arange(5)
    expected = model(keys).detach()
    with torch.no_grad():
        model.get_submodule("0").weight.renorm_(2.0, 0, 0.5)
    model.get_submodule("0").max_norm = None
    fl.freeze(model, through="0")
    check_promise(model, "freeze")
    torch.testing.assert_close(model(keys).detach(), expected)
