"""`fit(devices=2)`: two processes on the CPU give what one gives."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl

N = 41  # 41 samples in batches of 20: the last batch has one, and the second process none of it
TOLERANCE = 1e-6


def model() -> nn.Module:
    torch.manual_seed(0)
    own = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))
    fl.freeze(own, through="1")
    return own


def data(count: int = N, seed: int = 1) -> TensorDataset:
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, inputs[:, :3].argmax(1))


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    own = model()
    split = fl.split(own, data().tensors[0][:4])
    cache = fl.FeatureCache(tmp_path_factory.mktemp("features"))
    return split.head, cache.fill(split, data(), progress=False), cache.fill(split, data(13, 2), progress=False)


def both(head: nn.Module, train, val=None, **options):
    """(result, weights) with one process, and with two."""
    found = []
    for devices in (1, 2):
        own = copy.deepcopy(head)
        given = {"epochs": 3, "batch_size": 20, "lr": 1e-2, "progress": False, "devices": devices, **options}
        result = fl.fit(own, train, val, **{k: v(own) if k == "clip" and v is ... else v for k, v in given.items()})
        found.append((result, [p.detach().clone() for p in own.parameters()]))
    return found


def assert_same(one, two) -> None:
    for own, other in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(own, other, atol=TOLERANCE, rtol=TOLERANCE)
    for own, other in zip(one[0].history, two[0].history, strict=True):
        assert own.train_loss == pytest.approx(other.train_loss, rel=TOLERANCE)
        assert own.val_loss == (pytest.approx(other.val_loss, rel=TOLERANCE) if own.val_loss is not None else None)
        assert own.val_metric == other.val_metric


def test_two_processes_train_the_head_that_one_trains(cached):
    head, train, val = cached
    one, two = both(head, train, val)
    assert_same(one, two)
    assert one[0].best_epoch == two[0].best_epoch
    assert not torch.distributed.is_initialized()
