"""Output layers that are solved before training."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.recipes.solved_head import _Converted, solve_head
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


class OwnNorm(nn.Module):
    """Normalises by the batch in training, and by statistics that start far off else."""

    def forward(self, h_BH):
        return (h_BH - h_BH.mean(0)) / (h_BH.std(0) + 1e-5) if self.training else h_BH


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(H), nn.BatchNorm1d(H, affine=False), OwnNorm()])
@pytest.mark.parametrize("cache", [True, False])
def test_features_are_those_that_training_sees_behind_fresh_statistics(norm, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    losses = []
    for init_head in ("probe", None):
        own = model(nn.Linear(H, H), copy.deepcopy(norm), nn.Dropout(0.1), nn.Linear(H, C))
        with torch.no_grad():
            own[1].weight.mul_(0.01)  # in evaluation mode the features are tiny, in training they are not
        result = fit(own, init_head=init_head, cache=cache, batch_size=16, progress=True, lr=1e-12, optimizer="sgd")
        losses.append(result.history[0].train_loss)
    assert losses[0] < 0.7 < losses[1]
    assert "was solved over 96 rows" in capsys.readouterr().err


def test_a_layer_that_is_better_in_training_stays_as_it_is(capsys):
    own = model(nn.Dropout(0.98), nn.Linear(H, C))  # its noise hides what the solved weights would use
    before = copy.deepcopy(own.state_dict())
    fit(own, init_head="probe", cache=False, progress=True, lr=1e-12, optimizer="sgd")
    told = capsys.readouterr().err
    assert "init_head: the layer '2' stays as it is: solved, it has a loss of" in told
    torch.testing.assert_close(own.state_dict(), before)


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(fl.DataError, match="init_head is not usable"):
        fit(model(), init_head="ridge")
    own = model(nn.Linear(H, C), nn.LogSoftmax(1))
    before = copy.deepcopy(own.state_dict())
    with pytest.raises(fl.DataError, match="Only a linear output layer can be solved for"):
        fit(own, init_head="probe", cache=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())


class Batches(list):
    epoch = 3


def test_inputs_are_moved_to_where_the_model_is_in_its_precision():
    given = Batches([(torch.zeros(2, 3).half(), torch.zeros(2)), ({"x": torch.zeros(2, 3)}, torch.zeros(2))])
    data = _Converted(given, "meta", None)
    for _ in range(2):  # as often as they are iterated
        first, second = data
        assert (first[0].is_meta, first[0].dtype) == (True, torch.float32)
        assert second[0]["x"].is_meta
        assert not first[1].is_meta
        assert given.epoch == 0  # the batches of the first epoch


@pytest.mark.parametrize("cache", [True, False])
def test_features_of_mixed_precision_are_solved_for(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = model()
    result = fit(own, init_head="probe", precision="bf16-mixed", cache=cache, lr=1e-12, optimizer="sgd")
    start = fit(model(), precision="bf16-mixed", cache=cache, lr=1e-12, optimizer="sgd")
    assert result.history[0].train_loss < start.history[0].train_loss


class Centred(nn.Module):
    """Computes with the mean of the batch, in evaluation too."""

    def __init__(self):
        super().__init__()
        self.low, self.mid, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, C)

    def forward(self, x):
        h = self.mid(self.low(x))
        return self.out(h - h.mean(0))


def test_the_batches_are_those_of_the_first_epoch_with_and_without_a_cache(tmp_path):
    items = TensorDataset(torch.randn(22, 4, generator=torch.Generator().manual_seed(0)), torch.arange(22) % C)
    found = []
    for cache in (False, tmp_path):
        torch.manual_seed(0)
        network = Centred()
        fl.freeze(network, through="low")
        fl.fit(network, items, epochs=1, batch_size=4, lr=1e-6, init_head="probe", cache=cache, progress=False,
               monitor=False)  # fmt: skip
        found.append(network.out.weight.detach())
    assert torch.allclose(*found, atol=1e-2)  # L-BFGS stops within that
