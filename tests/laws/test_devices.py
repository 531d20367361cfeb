"""`fit(devices=2)`: two processes on the CPU give what one gives."""

import copy
import os
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.store import opening

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
        result = fl.fit(own, train, val, **given)
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


def test_accumulated_clipped_averaged_and_weighted_steps_are_those_of_one_process(cached):
    head, train, val = cached
    every = {"accumulation": 2, "clip": fl.remedies.clip_by_norm(0.1), "ema": 0.9, "warmup": 0.5, "scheduler": "cosine",
             "scheduler_interval": "step", "class_weights": [1.0, 5.0, 0.2], "label_smoothing": 0.1}  # fmt: skip
    assert_same(*both(head, train, val, **every))


def test_labels_that_do_not_count_weigh_nothing():
    inputs, labels = data().tensors
    labels = torch.where(torch.arange(N) % 10 < 7, -100, labels)  # whole parts of batches without a label
    own = model()
    one, two = both(own, TensorDataset(inputs, labels), data(13, 2), cache=False, batch_size=4)
    assert_same(one, two)


def test_an_optimizer_with_a_closure_moves_as_in_one_process(cached):
    head, train, val = cached

    def optimizer(parameters):
        return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3, line_search_fn="strong_wolfe")

    one, two = both(head, train, val, optimizer=optimizer, epochs=2)
    for own, other in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("devices", [(2, 1), (1, 2)])
def test_a_run_is_resumed_with_another_number_of_processes(cached, tmp_path, devices):
    head, train, val = cached
    settings = {"batch_size": 20, "lr": 1e-2, "progress": False}
    whole, own = copy.deepcopy(head), copy.deepcopy(head)
    fl.fit(whole, train, val, epochs=4, **settings)
    fl.fit(own, train, val, epochs=2, out=tmp_path, devices=devices[0], **settings)
    assert sorted(path.name for path in tmp_path.glob("*.*json*")) == ["checkpoint.json", "health.jsonl"]
    result = fl.fit(own, train, val, epochs=4, out=tmp_path, resume=tmp_path, devices=devices[1], **settings)
    assert [epoch.epoch for epoch in result.history] == [1, 2, 3, 4]
    for ours, theirs in zip(own.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


class Counted(TensorDataset):
    """Notes which process has read which item."""

    fingerprint = "counted"

    def __init__(self, folder, *tensors: torch.Tensor) -> None:
        super().__init__(*tensors)
        self.folder = folder

    def sample_key(self, index: int) -> bytes:
        return f"item {index}".encode()

    def target(self, index: int) -> torch.Tensor:
        return self.tensors[1][index]

    def __getitem__(self, index):
        with open(self.folder / os.environ.get("RANK", "alone"), "a") as file:
            file.write(f"{index}\n")
        return super().__getitem__(index)


def test_processes_fill_a_cache_together_and_read_a_known_one_not_at_all(tmp_path):
    inputs, labels = data(120).tensors
    train, options = Counted(tmp_path, inputs, labels), {"epochs": 1, "batch_size": 20, "progress": False}
    result = fl.fit(model(), train, cache=tmp_path / "features", devices=2, **options)
    assert result.cache.computed == 120
    first, second = ({int(line) for line in (tmp_path / rank).read_text().split()} for rank in "01")
    assert first | second == set(range(120))
    assert len(first & second) < 30  # those that prove the split, and that the dataset is deterministic
    for devices in (1, 2):
        again = fl.fit(model(), train, cache=tmp_path / "features", devices=devices, **options)
        assert (again.cache.computed, again.cache.reused) == (0, 120)


class Deadly(TensorDataset):
    """Ends the process that reads it, if that is the second one and it trains."""

    def __getitem__(self, index):
        if os.environ.get("RANK") == "1" and index > 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_process_that_dies_ends_the_run_with_its_name():
    with pytest.raises(fl.DataError, match="has died") as caught:
        fl.fit(model(), Deadly(*data().tensors), cache=False, devices=2, batch_size=20, progress=False)
    assert "process 1 of 2" in caught.value.where


class Standardised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self.two(self.one(inputs))
        return found - found.mean(0)


def test_layers_and_losses_that_read_the_whole_batch_are_refused():
    options = {"cache": False, "devices": 2, "batch_size": 20, "progress": False}
    normed = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with pytest.raises(fl.DataError, match="BatchNorm that trains"):
        fl.fit(normed, data(), freeze="0", **options)
    with pytest.raises(fl.DataError, match="not the mean over its samples"):
        fl.fit(Standardised(), data(), freeze="one", **options)
    with pytest.raises(fl.DataError, match="not the mean over its samples"):
        fl.fit(model(), data(), loss=lambda output, target: nn.functional.cross_entropy(output, target) * len(target),
               **options)  # fmt: skip


def test_a_cache_in_memory_is_not_filled_by_several_processes(tmp_path):
    cache = fl.FeatureCache("memory://devices", local_folder=tmp_path)
    with pytest.raises(fl.DataError, match="lies in the memory of one"):
        fl.fit(model(), data(), cache=cache, devices=2, batch_size=20, progress=False)
    with pytest.raises(fl.DataError, match="lies in the memory of one"):
        cache.fill(fl.split(model(), data().tensors[0][:4]), data(), engine="ray", progress=False)


def test_a_run_that_meets_a_damaged_shard_computes_its_rows_anew_and_trains_as_before(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_CHECKED_AT_ONCE", -1)  # shards are checked on their first use
    options = {"cache": tmp_path, "epochs": 2, "batch_size": 20, "progress": False, "devices": 2}
    before = fl.fit(model(), data(), **options)
    path = max(tmp_path.glob("*/shards/*"), key=lambda own: own.stat().st_size)  # the merged one
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 64]))
    after = fl.fit(model(), data(), **options)
    assert [epoch.train_loss for epoch in after.history] == [epoch.train_loss for epoch in before.history]
