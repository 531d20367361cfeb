"""Output layers that are solved before training."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.recipes.solved_head import _OnDevice, solve_head
from helpers_sweep import C, H, cached, model, rows


def fit(made, **options):
    return fl.fit(made, TensorDataset(*rows()), **{"epochs": 1, "progress": False, "monitor": False, **options})


@pytest.mark.parametrize("cache", [True, False])
def test_training_starts_from_the_solved_layer(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own, wanted = model(), model()
    split, data = cached(wanted)
    solution = solve_head(split.head, data.loader(64), "cross_entropy")
    assert solution.layer == "1"
    fit(own, init_head="probe", cache=cache, lr=1e-12, optimizer="sgd")
    torch.testing.assert_close(own[1].weight.detach(), solution.weight, rtol=0.02, atol=0.01)
    x_ND, y_N = rows()
    assert F.cross_entropy(own.eval()(x_ND), y_N).item() == pytest.approx(solution.loss, rel=1e-3)


def test_layers_before_it_stay_as_they_are():
    own = model(nn.Linear(H, 8), nn.ReLU(), nn.Linear(8, C))
    before = copy.deepcopy(own.state_dict())
    fit(own, init_head="probe", lr=1e-12, optimizer="sgd", cache=False)
    moved = [name for name, tensor in own.state_dict().items() if not torch.allclose(tensor, before[name])]
    assert moved == ["3.weight", "3.bias"]


def test_ridge_regression_is_the_start_for_squared_errors():
    own = model(nn.Linear(H, 1))
    _, data = cached(own, rows()[0][:, :1])
    assert solve_head(nn.Sequential(nn.Linear(H, 1)), data.loader(64), "mse").steps == 0
    assert solve_head(nn.Sequential(nn.Linear(H, 1)), data.loader(64), F.l1_loss).steps > 0


def test_it_is_told_and_a_resumed_run_goes_on(tmp_path, capsys):
    own = model()
    fit(own, init_head="probe", out=tmp_path / "run", progress=True)
    assert "init_head: the layer '1' was solved over 96 rows, loss" in capsys.readouterr().err
    whole = model()
    done = fit(whole, init_head="probe", epochs=3, out=tmp_path / "whole")
    again = model()
    for epochs in (2, 3):
        resumed = fit(again, init_head="probe", epochs=epochs, out=tmp_path / "cut", resume=tmp_path / "cut")
    assert [epoch.train_loss for epoch in resumed.history] == [epoch.train_loss for epoch in done.history]
    assert torch.equal(whole[1].weight, again[1].weight)


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(fl.DataError, match="init_head is not usable"):
        fit(model(), init_head="ridge")
    own = model(nn.Linear(H, C), nn.LogSoftmax(1))
    before = copy.deepcopy(own.state_dict())
    with pytest.raises(fl.DataError, match="Only a linear output layer can be solved for"):
        fit(own, init_head="probe", cache=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())


def test_inputs_are_moved_to_where_the_model_is():
    data = _OnDevice([(torch.zeros(2, 3), torch.zeros(2)), ({"x": torch.zeros(2, 3)}, torch.zeros(2))], "meta")
    for _ in range(2):  # as often as they are iterated
        first, second = data
        assert first[0].is_meta
        assert second[0]["x"].is_meta
        assert not first[1].is_meta
