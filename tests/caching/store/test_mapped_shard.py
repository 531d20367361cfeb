import copy
import os
import signal
import threading

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import Subset

import frostline as fl
from frostline.caching.location import remote
from frostline.caching.location.remote import bound_copies
from frostline.caching.reading.gather import Gatherer
from frostline.caching.store import mapped_shard, opening, shard_writer
from frostline.caching.store.mapped_shard import KEYS, Shard
from frostline.core import shelf
from frostline.core.shelf import Shelf
from helpers_caching import D, N, Part, dataset, fill, opened_in, shards
from helpers_lengths import Sentences, pad, sentences


@pytest.fixture
def lazy(monkeypatch):
    """Caches of any size are checked shard by shard, as those of many gigabytes are."""
    monkeypatch.setattr(opening, "_CHECKED_AT_ONCE", -1)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 10 * 4 * D)  # four shards of ten rows
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 99)


def spoil(path):
    """Change one bit of the last row."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])


def checked(monkeypatch):
    """Names of the shards whose content is compared from now on."""
    real, names = Shard._digest, []
    monkeypatch.setattr(Shard, "_digest", lambda shard: names.append(shard.path.name) or real(shard))
    return names


def test_a_shard_is_checked_on_its_first_use_and_once(tmp_path, monkeypatch, lazy):
    assert len(shards(tmp_path)) == 0
    fill(tmp_path, batch_size=10)
    assert len(shards(tmp_path)) == 4
    names = checked(monkeypatch)
    opened = opened_in(fl.FeatureCache(tmp_path))
    assert len(opened.rows()) == N
    assert names == []  # the size of a cache is not the cost of opening it
    rows = opened.rows()
    gatherer = Gatherer(rows, all_keys(rows), Part().frontier, {}, {})
    gatherer.features(torch.tensor([3, 7]))
    assert names == [rows.names[0]]
    gatherer.features(torch.arange(N))
    gatherer.features(torch.arange(N))
    assert sorted(names) == sorted(rows.names)


def test_damage_that_a_fill_meets_is_mended_by_it(tmp_path, lazy):
    fill(tmp_path, batch_size=10)
    for path in shards(tmp_path):
        spoil(path)
    data = fill(tmp_path)
    assert data.figures.computed == N
    assert all(torch.equal(data[at][0][0], dataset()[at][0] * 2) for at in range(N))
    assert len(list(tmp_path.glob("*/set-aside/*"))) == 4
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_damage_that_a_loader_meets_is_an_error_and_the_next_fill_mends_it(tmp_path, lazy):
    data = fill(tmp_path, batch_size=10)
    again = fl.FeatureCache(tmp_path)
    data = again.fill(Part(), dataset(), progress=False)
    for path in shards(tmp_path):
        spoil(path)
    other = copy.deepcopy(data)  # as a worker process opens it: nothing is known there
    with pytest.raises(fl.CacheError, match="damaged") as caught:
        list(other.loader(8))
    assert "set aside" in caught.value.received
    data = again.fill(Part(), dataset(), progress=False)
    assert data.figures.computed > 0
    assert all(torch.equal(own[0], dataset()[at][0] * 2) for at, (own, _) in enumerate(data))


def test_a_merge_does_not_carry_damage_into_a_new_shard(tmp_path, lazy, monkeypatch):
    fill(tmp_path, batch_size=10)
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 0)  # all are merged
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 2**20)
    spoil(shards(tmp_path)[1])
    bigger = fill(tmp_path, data=dataset(N + 5))
    assert all(torch.equal(bigger[at][0][0], dataset(N + 5)[at][0] * 2) for at in range(N + 5))
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_a_shard_that_others_deleted_is_checked_as_it_is_mapped(tmp_path, lazy):
    fill(tmp_path, batch_size=10)
    opened = opened_in(fl.FeatureCache(tmp_path))
    for path in shards(tmp_path):
        path.unlink()
    assert all(shard.is_whole() for shard in opened.held.values())


@pytest.fixture
def url(tmp_path, lazy, monkeypatch):
    """A large cache in a store: four shards of ten rows; tries follow each other at once."""
    monkeypatch.setattr(shelf, "_wait", lambda seconds: None)
    address = f"memory://{tmp_path.name}"
    opened_at(address, tmp_path / "first").fill(Part(), dataset(), batch_size=10, progress=False)
    yield address
    fsspec.filesystem("memory").store.clear()


def opened_at(url, folder):
    return fl.FeatureCache(url, local_folder=folder)


def fetched(monkeypatch):
    """Names of the shards that are fetched whole from now on, in order."""
    real, names = Shelf.fetch, []

    def fetch(store, name, *rest, **options):
        names.append(name.rsplit("/", 1)[1])
        return real(store, name, *rest, **options)

    monkeypatch.setattr(Shelf, "fetch", fetch)
    return names


def all_keys(rows):
    return np.concatenate([shard[KEYS].numpy() for shard in rows.mapped])


def gatherer_of(url, folder):
    rows = opened_in(opened_at(url, folder)).rows()
    return rows, Gatherer(rows, all_keys(rows), Part().frontier, {}, {})


def test_a_large_store_is_opened_by_its_keys_and_shards_are_fetched_when_rows_are_used(url, tmp_path, monkeypatch):
    names = fetched(monkeypatch)
    rows, gatherer = gatherer_of(url, tmp_path / "second")
    assert len(rows.keys_of(np.arange(N))) == N
    assert names == []
    assert shards(tmp_path / "second") == []
    (low,) = gatherer.features(torch.tensor([12, 3]))
    assert sorted(names) == sorted(rows.names[:2])
    assert {path.name for path in shards(tmp_path / "second")} == set(names)
    own = {dataset()[at][0].mul(2).numpy().tobytes() for at in range(N)}
    assert {row.numpy().tobytes() for row in low} <= own


def test_every_row_of_a_large_store_is_right_on_another_machine(url, tmp_path):
    part = Part()
    data = opened_at(url, tmp_path / "second").fill(part, dataset(), progress=False)
    assert (data.figures.computed, part.samples) == (0, 16)
    order = [row for features, _ in data.loader(7, shuffle=True) for row in features[0]]
    assert sorted(map(tuple, torch.stack(order).tolist())) == sorted(map(tuple, (dataset().tensors[0] * 2).tolist()))
    assert not list((tmp_path / "second").rglob("*.part"))


class Here(threading.Thread):
    """Runs where it is started."""

    def start(self):
        self.run()


def test_shards_are_fetched_in_the_order_of_the_samples(url, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_shard, "Thread", Here)
    names = fetched(monkeypatch)
    rows, gatherer = gatherer_of(url, tmp_path / "second")
    gatherer.fetch_ahead(torch.tensor([31, 2, 33, 15, 1]))
    assert names == [rows.names[at] for at in (3, 0, 1)]
    gatherer.fetch_ahead(torch.arange(N))
    assert sorted(names) == sorted(rows.names)
    gatherer.fetch_ahead(torch.arange(N))
    assert len(names) == 4


def test_a_loader_fetches_ahead(url, tmp_path, monkeypatch):
    data = opened_at(url, tmp_path / "second").fill(Part(), dataset(), progress=False)
    asked = []
    monkeypatch.setattr(Gatherer, "fetch_ahead", lambda gatherer, samples: asked.append(samples.tolist()))
    loader = data.loader(8, shuffle=True, seed=3)
    batches = [target for _, target in loader]
    assert dataset().tensors[1][asked[0]].tolist() == torch.cat(batches).tolist()


def test_another_process_finds_all_rows_on_the_disk(url, tmp_path):
    data = opened_at(url, tmp_path / "second").fill(Part(), dataset(), progress=False)
    other = copy.deepcopy(data)
    assert len(shards(tmp_path / "second")) == 4
    assert all(torch.equal(own[0], dataset()[at][0] * 2) for at, (own, _) in enumerate(other))


def test_a_damaged_object_that_is_met_late_is_an_error_and_then_computed_anew(url, tmp_path):
    files, root = fsspec.url_to_fs(url)
    for path in [path for path in files.find(root) if "/shards/" in path]:
        whole = files.cat_file(path)
        files.pipe_file(path, whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    cache = opened_at(url, tmp_path / "second")
    data = cache.fill(Part(), dataset(), progress=False)  # golden rows meet it
    assert data.figures.computed == N
    assert all(torch.equal(own[0], dataset()[at][0] * 2) for at, (own, _) in enumerate(data))


def test_an_object_that_goes_before_it_is_fetched_is_computed_anew(url, tmp_path, monkeypatch):
    cache, (files, root) = opened_at(url, tmp_path / "second"), fsspec.url_to_fs(url)
    held = opened_in(cache).held
    for path in [path for path in files.find(root) if "/shards/" in path]:
        files.rm_file(path)
    with pytest.raises(fl.CacheError, match="gone from the store"):
        next(iter(held.values())).check()
    assert shards(tmp_path / "second") == []
    data = cache.fill(Part(), dataset(), progress=False)
    assert data.figures.computed == N
    assert all(torch.equal(own[0], dataset()[at][0] * 2) for at, (own, _) in enumerate(data))


def test_keys_that_arrive_otherwise_than_the_index_has_them_are_damage(url, tmp_path, monkeypatch):
    real = Shelf.read_start

    def wrong(store, name, count):
        size, start = real(store, name, count)
        at = int.from_bytes(start[:8], "little") + 8
        return size, start[:at] + bytes([start[at] ^ 1]) + start[at + 1 :]

    monkeypatch.setattr(Shelf, "read_start", wrong)
    _, gatherer = gatherer_of(url, tmp_path / "second")
    for _ in range(6):  # it stays damage, also where a thread that fetches ahead has met it first
        with pytest.raises(fl.CacheError, match="damaged"):
            gatherer.features(torch.arange(N))


def test_a_shard_that_has_arrived_is_not_deleted_while_it_is_mapped(url, tmp_path):
    rows, gatherer = gatherer_of(url, tmp_path / "second")
    gatherer.features(torch.arange(N))
    assert bound_copies(tmp_path / "second", 0) == sum(path.stat().st_size for path in shards(tmp_path / "second"))
    assert len(shards(tmp_path / "second")) == len(rows.names)


def test_an_object_whose_header_is_damaged_leaves_the_store(url, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "LEASE_S", -1.0)  # nobody can be writing it any more
    files, root = fsspec.url_to_fs(url)
    for path in [path for path in files.find(root) if "/shards/" in path]:
        files.pipe_file(path, bytes([255]) * len(files.cat_file(path)))
    opened_at(url, tmp_path / "second").fill(Part(), dataset(), batch_size=7, progress=False)
    data = opened_at(url, tmp_path / "third").fill(Part(), dataset(), progress=False)
    assert (data.figures.computed, data.notes) == (0, ())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_does_not_wait_for_a_thread_that_fetches(url, tmp_path):
    rows, _ = gatherer_of(url, tmp_path / "second")
    shard = rows.mapped[0]
    shard.check()
    with shard._alone:  # as the thread holds it
        child = os.fork()
        if not child:
            signal.alarm(20)
            os._exit(0 if shard.is_whole() else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_rows_of_differing_length_in_a_large_store_are_found_on_another_machine(tmp_path, lazy, monkeypatch):
    monkeypatch.setattr(remote, "_START_BYTES", 5000)
    data = sentences(40)
    url, model = f"memory://{tmp_path.name}", Sentences()
    fl.freeze(model, through="low")
    split = fl.split(model, {key: value for key, value in pad(data[:4]).items() if key != "labels"})
    computed = [opened_at(url, tmp_path / name).fill(split, data, collate_fn=pad, progress=False).figures.computed
                for name in ("first", "second")]  # fmt: skip
    fsspec.filesystem("memory").store.clear()
    assert computed == [40, 0]


def test_an_outage_while_rows_are_used_is_told_and_survived(url, tmp_path, monkeypatch):
    data = opened_at(url, tmp_path / "second").fill(Part(), Subset(dataset(), range(5)), progress=False)
    _, gatherer = gatherer_of(url, tmp_path / "third")
    with monkeypatch.context() as patch:
        patch.setattr(type(fsspec.filesystem("memory")), "open", lambda *_, **__: (_ for _ in ()).throw(TimeoutError()))
        with pytest.raises(fl.CacheError, match="in the remote cache"):
            gatherer.features(torch.arange(N))
    assert len(gatherer.features(torch.arange(N))[0]) == N
    assert len(data) == 5
