import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import frostline as fl
from frostline.training.weight_average import WeightAverage
from helpers_fit import data, fit, mlp


def test_it_is_the_average_of_torch_to_the_bit():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    expected = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    average: dict = {}
    own = WeightAverage(model, 0.9, average)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(4):
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()
        own.follow()
        expected.update_parameters(model)
    now = {name: value.clone() for name, value in model.state_dict().items()}
    with own.in_place():
        for name, value in expected.module.state_dict().items():
            assert name == "1.num_batches_tracked" or torch.equal(model.state_dict()[name], value), name
        assert not torch.equal(model[0].weight, now["0.weight"])
    assert all(torch.equal(value, now[name]) for name, value in model.state_dict().items())


def test_an_error_inside_leaves_the_weights_that_train():
    model, average = nn.Linear(2, 2), {}
    own = WeightAverage(model, 0.5, average)
    own.follow()
    with torch.no_grad():
        model.weight += 1
    kept = model.weight.clone()
    with pytest.raises(KeyError), own.in_place():
        raise KeyError
    assert torch.equal(model.weight, kept)


def test_frozen_layers_are_left_alone():
    model = mlp()
    fl.freeze(model, through="2")
    versions = model[0].weight._version, model[1].running_mean._version
    average: dict = {}
    own = WeightAverage(model, 0.5, average)
    own.follow()
    with own.in_place():
        pass
    assert {name.partition(".")[0] for name in average} == {"3", "5", "7"}
    assert (model[0].weight._version, model[1].running_mean._version) == versions


def test_sparse_buffers_have_no_average():
    model, average = nn.Linear(2, 2), {}
    model.register_buffer("adjacency", torch.eye(2).to_sparse())
    own = WeightAverage(model, 0.5, average)
    own.follow()
    own.follow()
    assert set(average) == {"weight", "bias"}


@pytest.mark.parametrize("val", [None, data(20)], ids=["last", "best"])
def test_the_trained_model_is_the_average(val):
    averaged, plain = mlp(), mlp()
    result = fit(averaged, freeze="2", epochs=3, batch_size=16, val=val, ema=0.7, cache=False)
    raw = fit(plain, freeze="2", epochs=3, batch_size=16, val=val, cache=False)
    assert [epoch.train_loss for epoch in result.history] == [epoch.train_loss for epoch in raw.history]
    assert not torch.equal(averaged[7].weight, plain[7].weight)
    if val is not None:
        assert [epoch.val_loss for epoch in result.history] != [epoch.val_loss for epoch in raw.history]
        inputs, target = val.tensors
        averaged.eval()
        loss = nn.functional.cross_entropy(averaged(inputs), target)
        assert float(loss.detach()) == pytest.approx(result.history[result.best_epoch - 1].val_loss)


def test_few_steps_are_told(capsys):
    fit(mlp(), epochs=1, batch_size=16, ema=0.999, cache=False, progress=True)
    assert "ema: After 3 steps, 100% of the averaged weights" in capsys.readouterr().err
