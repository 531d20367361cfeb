import os
import pickle
import threading
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import frostline as fl
from frostline.caching.reading import windows
from frostline.caching.reading.windows import Sizes, Window, ahead, sizes_of
from frostline.caching.store import shard_writer
from frostline.core import io
from frostline.core.order import windowed_order
from helpers_caching import D, Masked, MaskedPart, N, dataset, fill, shards

ROWS = dataset().tensors[0] * 2
SMALL = 4 * N * D // 2  # of memory: half of the rows


def ids_of(loader):
    """What the loader gives: features and targets, whole."""
    batches = list(loader)
    return torch.cat([features[0] for features, _ in batches]), torch.cat([target for _, target in batches])


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A cache of several shards."""
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    monkeypatch.setattr("frostline.caching.fill.fill.merge", lambda *_: False)
    data = fill(tmp_path / "cache", batch_size=7)
    assert len(data._gatherer.names) > 3
    return data


def never_mapped(*_, **__):
    raise AssertionError("a row was taken from mapped memory")


def test_rows_beyond_the_budget_are_read_and_every_sample_comes_once(many, monkeypatch):
    monkeypatch.setattr("frostline.caching.reading.gather.Span", never_mapped)
    for shuffle in (False, True):
        loader = many.loader(3, shuffle=shuffle, seed=5, memory_bytes=SMALL)
        for epoch in range(2):
            order = windowed_order(N, block=loader._read.block, window=loader._read.window, seed=5, epoch=epoch)
            order = order if shuffle else torch.arange(N)
            rows, targets = ids_of(loader)
            assert torch.equal(rows, ROWS[order])
            assert torch.equal(targets, dataset().tensors[1][order])


def test_rows_within_the_budget_are_shuffled_over_all(many):
    assert many.loader(3, shuffle=True, memory_bytes=4 * N * D)._read is None
    assert many.loader(3, shuffle=True)._read is None


@pytest.mark.parametrize("start", [1, 3, 7])
def test_a_pass_goes_on_in_the_middle_of_a_window(many, start):
    whole = list(many.loader(3, shuffle=True, memory_bytes=SMALL))
    loader = many.loader(3, shuffle=True, memory_bytes=SMALL)
    loader.load_state_dict({**loader.state_dict(), "batch": start})
    rest = list(loader)
    assert len(rest) == len(whole) - start
    for (own, _), (other, _) in zip(rest, whole[start:], strict=True):
        assert torch.equal(own[0], other[0])
    own = {"block": loader._read.block, "window": loader._read.window}
    assert loader.state_dict() == {"seed": 0, "epoch": 1, "batch": 0, "batch_size": 3, **own}


def test_a_pass_goes_on_in_its_own_order_only(many):
    """Another budget is another order: samples would come twice, and others not at all."""
    small, larger = (many.loader(3, shuffle=True, memory_bytes=size) for size in (SMALL, 2 * SMALL))
    for one, other in ((small, larger), (many.loader(3, shuffle=True), small), (small, many.loader(3, shuffle=True))):
        with pytest.raises(fl.DataError, match="another order, which follows from its budget of memory"):
            other.load_state_dict({**one.state_dict(), "batch": 2})
        other.load_state_dict(one.state_dict())  # a whole epoch is whole in any order
    in_order = many.loader(3, memory_bytes=2 * SMALL)
    in_order.load_state_dict({**many.loader(3).state_dict(), "batch": 2})


def test_inputs_shared_tensors_and_rounded_rows_are_those_of_mapped_ones(tmp_path):
    for storage in ("exact", "float16", "int8"):
        data = fill(tmp_path / storage, MaskedPart(), Masked(0, 30), storage=storage)
        pairs = zip(data.loader(4, drop_last=True), data.loader(4, drop_last=True, memory_bytes=200), strict=True)
        for (mapped, target), (read, other) in pairs:
            assert torch.equal(target, other)
            assert all(torch.equal(own, that) for own, that in zip(mapped, read, strict=True))


def test_views_are_read_epoch_by_epoch(tmp_path):
    class Noisy:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return dataset().tensors[0][index] + torch.rand(D), index

    data = fill(tmp_path, data=Noisy(), views=2)
    mapped, read = data.loader(3), data.loader(3, memory_bytes=100)
    for _ in range(3):
        assert torch.equal(ids_of(mapped)[0], ids_of(read)[0])


def test_a_copy_in_another_process_reads_too(many):
    loader = many.loader(3, memory_bytes=SMALL)
    next(iter(loader))
    assert torch.equal(ids_of(pickle.loads(pickle.dumps(loader)))[0], ROWS)


def test_a_row_of_another_sample_is_refused(many):
    many._gatherer.row[3], many._gatherer.row[4] = int(many._gatherer.row[4]), int(many._gatherer.row[3])
    with pytest.raises(fl.CacheError, match="belongs to another sample"):
        list(many.loader(3, memory_bytes=SMALL))


def test_a_file_that_is_cut_while_it_is_read_raises_and_kills_nothing(tmp_path):
    data = fill(tmp_path)
    loader = data.loader(1, memory_bytes=1)
    passing = iter(loader)
    next(passing)
    os.truncate(shards(tmp_path)[-1], 100)
    with pytest.raises(fl.CacheError, match="became shorter while it was read"):
        list(passing)


def test_a_disk_that_fails_raises(many, monkeypatch):
    def failing(function, *arguments, **options):
        if function is os.preadv:
            raise OSError(5, "Input/output error")
        return function(*arguments, **options)

    loader = many.loader(3, memory_bytes=SMALL)
    monkeypatch.setattr(io, "call", failing)
    with pytest.raises(fl.CacheError, match="Cannot read"):
        list(loader)


def test_short_reads_are_continued(many, monkeypatch):
    def short(function, *arguments, **options):
        if function is os.preadv:
            return os.preadv(arguments[0], [arguments[1][0][:5]], arguments[2])
        return function(*arguments, **options)

    monkeypatch.setattr(io, "call", short)
    assert torch.equal(ids_of(many.loader(3, memory_bytes=SMALL))[0], ROWS)


def test_few_files_stay_open(many, monkeypatch):
    monkeypatch.setattr(windows, "_OPEN_FILES", 2)
    loader = many.loader(3, shuffle=True, memory_bytes=SMALL)
    assert len(ids_of(loader)[0]) == N
    assert len(loader._windows._files) == 2


def test_rows_on_the_disk_of_another_machine_are_read(many, monkeypatch):
    monkeypatch.setattr(windows, "is_network", lambda _: True)
    monkeypatch.setattr("frostline.caching.reading.gather.Span", never_mapped)
    assert torch.equal(ids_of(many.loader(3))[0], ROWS)
    others = DataLoader(many.part(range(N)), batch_size=7)
    assert torch.equal(ids_of(others)[0], ROWS)
    in_workers = DataLoader(many.part(range(N)), batch_size=7, num_workers=1, multiprocessing_context="fork")
    assert torch.equal(ids_of(in_workers)[0], ROWS)


def test_sizes_keep_whole_batches_and_follow_the_budget(many, monkeypatch):
    own = many._gatherer
    assert sizes_of(own, SMALL, 3) == Sizes(block=1, window=3)
    monkeypatch.setattr(windows, "memory_bytes", lambda: 2 * SMALL)
    assert sizes_of(own, None, 3) == Sizes(block=1, window=3)
    assert sizes_of(own, 1, 3).window == 3  # one batch at least


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_thread_reads_ahead_only_where_the_disk_makes_the_step_wait(is_slow, monkeypatch):
    clock = {"passed": 0.0, "worked": 0.0}
    monkeypatch.setattr(windows.time, "monotonic", lambda: clock["passed"])
    monkeypatch.setattr(windows.time, "thread_time", lambda: clock["worked"])
    threads = []

    def read(chunk):
        threads.append(threading.current_thread().name)
        clock["passed"] += 1.0
        clock["worked"] += 0.0 if is_slow else 1.0
        return Window(None, chunk, chunk, {})

    for _ in ahead([torch.tensor(at) for at in range(5)], read, 3):
        clock["passed"] += 1.0
    assert len(threads) == 5
    assert any(name.startswith("frostline-rows") for name in threads) == is_slow


def test_a_pass_that_is_broken_off_ends_its_thread(many, monkeypatch):
    monkeypatch.setattr(windows, "_WAITED_SHARE", -1.0)  # every disk is slow
    passing = iter(many.loader(3, memory_bytes=SMALL))
    for _ in range(4):
        next(passing)
    assert any(thread.name.startswith("frostline-rows") for thread in threading.enumerate())
    passing.close()
    del passing
    assert not any(thread.name.startswith("frostline-rows") for thread in threading.enumerate())


def resident_bytes():
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split("VmRSS:")[1].split()[0])


class Wide:
    """Rows of 128 KB."""

    recipe = {"name": "wide"}  # noqa: RUF012 (a constant)
    frontier = (fl.FrontierTensor("low", (32768,), torch.float32, 131072, False),)

    def extract(self, inputs):
        return (inputs.repeat(1, 8192),)


def test_a_cache_ten_times_larger_than_the_budget_keeps_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 2**23)
    count, budget = 1024, 2**27 // 10
    inputs = torch.arange(4.0 * count).view(count, 4)
    dataset = TensorDataset(inputs, torch.arange(count))
    fl.FeatureCache(tmp_path).fill(Wide(), dataset, progress=False)
    data = fl.FeatureCache(tmp_path).fill(Wide(), dataset, progress=False)  # maps it anew
    list(data.part(range(64)).loader(4, memory_bytes=1))  # what a first pass of any size needs
    before, most, seen = resident_bytes(), 0, []
    for (rows,), target in data.loader(4, shuffle=True, memory_bytes=budget):
        assert torch.equal(rows[:, :4], inputs[target])
        seen.append(target)
        del rows
        most = max(most, resident_bytes() - before)
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(count))
    assert count * 131072 >= 10 * budget
    assert most < budget
