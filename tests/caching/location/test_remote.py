"""Caches under URLs, on a store in memory."""

import gc
import pickle
import shutil
from datetime import timedelta

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from torch.utils.data import Subset

import frostline as fl
from frostline.caching.reading.gather import Gatherer
from frostline.caching.store import collector, opening, shard_writer
from frostline.core import shelf
from frostline.core.shelf import Shelf
from helpers_caching import Masked, MaskedPart, N, Part, dataset, opened_in


@pytest.fixture
def url(tmp_path):
    """The address of a store of its own."""
    address = f"memory://{tmp_path.name}/features"
    yield address
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def machine(tmp_path):
    """machine(n): the folder for copies of the n-th machine."""
    return lambda number: tmp_path / f"machine-{number}"


def fill(url, folder, part=None, data=None, **options):
    cache = fl.FeatureCache(url, local_folder=folder)
    return cache.fill(part or Part(), dataset() if data is None else data, progress=False, **options)


def check_rows(data, samples=N):
    own = dataset(samples)
    for at in range(samples):
        assert torch.equal(data[at][0][0], own[at][0] * 2)


def objects(url):
    files, root = fsspec.url_to_fs(url)
    return sorted(path.removeprefix(root) for path in files.find(root))


def test_another_machine_gets_every_row(url, machine):
    assert fill(url, machine(1)).figures.computed == N
    part = Part()
    data = fill(url, machine(2), part)
    assert (data.figures.computed, data.figures.reused, part.samples) == (0, N, 16)  # golden rows alone
    check_rows(data)
    assert data.figures.path.startswith(url)


def test_an_emptied_folder_of_copies_costs_fetching_only(url, machine):
    fill(url, machine(1))
    shutil.rmtree(machine(1))
    data = fill(url, machine(1))
    assert data.figures.computed == 0
    check_rows(data)


def test_what_grows_on_two_machines_is_the_union(url, machine):
    fill(url, machine(1), data=Subset(dataset(), range(25)))
    assert fill(url, machine(2), data=Subset(dataset(), range(15, N))).figures.computed == N - 25
    assert fill(url, machine(3)).figures.computed == 0


def test_inputs_for_the_head_come_along(url, machine):
    fill(url, machine(1), MaskedPart(), Masked())
    data = fill(url, machine(2), MaskedPart(), Masked())
    assert data.figures.computed == 0
    own = Masked()
    assert torch.equal(data[3][0][1], own[3]["mask"])


def test_ls_verify_forget_prune_and_purge(url, machine):
    cache = fl.FeatureCache(url, local_folder=machine(1))
    assert (cache.entries(), cache.verify(), repr(cache)) == ((), (), f"FeatureCache({url!r})")
    fill(url, machine(1))
    other = fl.FeatureCache(url, local_folder=machine(2))
    assert [(entry.rows, entry.bytes > 0) for entry in other.entries()] == [(N, True)]
    assert other.verify() == ()
    before = {name for name in objects(url) if "/shards/" in name}
    assert other.forget(Subset(dataset(), range(5))) == 5
    assert not before & set(objects(url))
    assert fill(url, machine(1)).figures.computed == 5
    assert len(cache.prune(max_bytes=0).evicted) == 1
    assert (cache.entries(), objects(url)) == ((), [])
    assert fill(url, machine(1)).figures.computed == N
    assert cache.purge() > 0
    assert objects(url) == []


def files_of(url):
    files, root = fsspec.url_to_fs(url)
    return files, root


def spoil(url, part):
    """Change a bit of every object with this in its path; returns how many."""
    files, root = files_of(url)
    paths = [path for path in files.find(root) if part in path]
    for path in paths:
        whole = files.cat_file(path)
        files.pipe_file(path, whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    return len(paths)


def aged(monkeypatch, seconds, part=""):
    """The clock of the store says that objects with this in their path were written so long ago."""
    real = MemoryFileSystem.modified
    monkeypatch.setattr(
        MemoryFileSystem,
        "modified",
        lambda files, path: real(files, path) - timedelta(seconds=seconds if part in path else 0),
    )


def test_a_damaged_object_is_left_out_and_its_rows_are_computed_anew(url, machine, monkeypatch):
    monkeypatch.setattr(shelf, "_wait", lambda seconds: None)
    fill(url, machine(1))
    assert spoil(url, "/shards/") == 1
    assert "digest" in fl.FeatureCache(url, local_folder=machine(3)).verify()[0]
    data = fill(url, machine(2))
    assert data.figures.computed == N
    assert "is left out" in data.notes[0]
    check_rows(data)
    check_rows(fill(url, machine(3)))


def test_a_damaged_object_that_is_old_makes_room(url, machine, monkeypatch):
    monkeypatch.setattr(shelf, "_wait", lambda seconds: None)
    fill(url, machine(1))
    before = [name for name in objects(url) if "/shards/" in name]
    spoil(url, "/shards/")
    aged(monkeypatch, 7200, "/shards/")
    fill(url, machine(2), Part(), data=Subset(dataset(), range(5)))
    assert not set(before) & set(objects(url))


def test_a_damaged_copy_is_fetched_anew_and_the_object_stays(url, machine, monkeypatch):
    fill(url, machine(1))
    aged(monkeypatch, 7200)
    before = objects(url)
    (copy,) = machine(1).glob("*/shards/*")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    data = fill(url, machine(1))
    assert data.figures.computed == 0
    check_rows(data)
    assert set(before) <= set(objects(url))


def test_a_copy_that_cannot_be_opened_is_fetched_anew(url, machine, monkeypatch):
    fill(url, machine(1))
    aged(monkeypatch, 7200)
    (copy,) = machine(1).glob("*/shards/*")
    copy.write_bytes(copy.read_bytes()[:4])
    rows = opened_in(fl.FeatureCache(url, local_folder=machine(1))).rows()
    assert sum(rows.find(fill(url, machine(2))._gatherer.keys.numpy()) >= 0) == N
    assert copy.stat().st_size > 4


def test_a_manifest_that_is_half_there_is_passed_over(url, machine):
    fill(url, machine(1))
    files, root = files_of(url)
    (path,) = [path for path in files.find(root) if "/manifests/" in path]
    whole = files.cat_file(path)
    files.pipe_file(path, whole[:50])
    data = fill(url, machine(2))
    assert data.figures.computed == N
    assert "passed over" in data.notes[0]
    files.pipe_file(path, whole)  # it was being written
    assert fill(url, machine(3)).figures.computed == 0


def test_what_was_deleted_in_the_store_is_gone_on_the_disk(url, machine):
    fill(url, machine(1))
    fl.FeatureCache(url, local_folder=machine(2)).purge()
    assert fl.FeatureCache(url, local_folder=machine(1)).entries() == ()
    assert fill(url, machine(1)).figures.computed == N


def test_copies_are_bounded_and_what_is_mapped_stays(url, machine):
    folder = machine(1)
    cache = fl.FeatureCache(url, local_folder=folder, local_bytes=1)
    first = cache.fill(Part(2.0), dataset(), progress=False)
    cache.fill(Part(3.0), dataset(), progress=False)
    check_rows(first)
    assert len(list(folder.glob("*/shards/*"))) == 2  # both are mapped
    del cache, first
    gc.collect()
    cache = fl.FeatureCache(url, local_folder=folder, local_bytes=1)
    data = cache.fill(Part(2.0), dataset(), progress=False)
    assert data.figures.computed == 0
    assert len(list(folder.glob("*/shards/*"))) == 1


def test_a_manifest_is_not_published_before_its_shards_are_there(url, machine, monkeypatch):
    monkeypatch.setattr(Shelf, "put", lambda *_: None)  # an upload that the store has lost
    with pytest.raises(fl.CacheError, match="the store lacks a shard") as caught:
        fill(url, machine(1))
    assert all(caught.value.parts().values())
    assert [name for name in objects(url) if "/manifests/" in name] == []


def test_a_store_whose_manifests_never_stay_is_told(url, machine, monkeypatch):
    fill(url, machine(1))
    monkeypatch.setattr(Shelf, "read", lambda *_, **__: None)
    with pytest.raises(fl.CacheError, match="change faster than they can be read"):
        fill(url, machine(2))


def test_nothing_is_deleted_while_a_builder_may_be_at_work(url, machine, monkeypatch):
    fill(url, machine(1))
    cache = fl.FeatureCache(url, local_folder=machine(2))
    recipe = cache.entries()[0].recipe
    shelf_of = cache.location.shelf
    shelf_of.touch(f"{recipe}/leases/{'a' * 32}")  # of a builder on another machine, or of one that was killed
    assert cache.prune(max_bytes=0).in_use == (recipe,)
    for call in (cache.purge, lambda: cache.forget(dataset())):
        with pytest.raises(fl.CacheError, match="Another process fills") as caught:
            call()
        assert "an hour" in caught.value.do
    monkeypatch.setattr(collector, "_MAX_MANIFESTS", 0)
    fill(url, machine(1), data=dataset(N + 5))
    assert len([name for name in objects(url) if "/manifests/" in name]) > 1
    aged(monkeypatch, 3700, "a" * 32)
    assert cache.prune(max_bytes=0).evicted == (recipe,)
    assert objects(url) == []


def test_shards_that_nobody_needs_go_after_a_day(url, machine, monkeypatch):
    fill(url, machine(1), data=Subset(dataset(), range(20)))
    fill(url, machine(1))  # two shards
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 0)
    fill(url, machine(1), data=dataset(N + 1))  # merged
    before = [name for name in objects(url) if "/shards/" in name]
    assert len(before) > 1
    aged(monkeypatch, 90_000, "/shards/")
    fill(url, machine(2), data=dataset(N + 2))
    left = [name for name in objects(url) if "/shards/" in name]
    assert not set(before) & set(left)
    check_rows(fill(url, machine(3), data=dataset(N)), N)


def test_many_manifests_become_one(url, machine, monkeypatch):
    monkeypatch.setattr(collector, "_MAX_MANIFESTS", 3)
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    fill(url, machine(1), batch_size=5)
    assert len([name for name in objects(url) if "/manifests/" in name]) == 1
    assert fill(url, machine(2)).figures.computed == 0


def test_a_store_that_may_only_be_read_serves_what_is_there(url, machine, monkeypatch):
    fill(url, machine(1))

    def refused(*_, **__):
        raise PermissionError("read only")

    for name in ("pipe_file", "put_file", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, refused)
    data = fill(url, machine(2))
    assert data.figures.computed == 0
    check_rows(data)
    with pytest.raises(fl.CacheError, match="right to read and write"):
        fill(url, machine(2), data=dataset(N + 5))


def test_a_file_url_is_a_store_as_well(tmp_path, machine):
    url = f"file://{tmp_path}/store"
    assert fill(url, machine(1)).figures.computed == N
    assert fill(url, machine(2)).figures.computed == 0
    assert fl.FeatureCache(url, local_folder=machine(2)).purge() > 0
    assert list(machine(2).rglob("*.safetensors")) == []  # the copies too


def test_secrets_are_on_no_disk_and_in_no_text(tmp_path, machine):
    secret = "hush-hush-hush"
    cache = fl.FeatureCache(f"memory://{tmp_path.name}", storage_options={"secret": secret}, local_folder=machine(1))
    data = cache.fill(Part(), dataset(), progress=False)
    files, root = files_of(f"memory://{tmp_path.name}")
    texts = [files.cat_file(path) for path in files.find(root)]
    texts += [path.read_bytes() for path in machine(1).rglob("*") if path.is_file()]
    texts += [own.encode() for own in (repr(cache), repr(data.figures), *data.notes)]
    assert not any(secret.encode() in text for text in texts)
    files.store.clear()


def test_a_copy_for_another_process_has_all_shards_on_the_disk(url, machine, monkeypatch):
    monkeypatch.setattr(opening, "_CHECKED_AT_ONCE", -1)  # shards are fetched at their first use
    data = fill(url, machine(1))
    rows = opened_in(fl.FeatureCache(url, local_folder=machine(2))).rows()
    data._gatherer = Gatherer(rows, data._gatherer.keys.numpy(), Part().frontier, {}, {})
    assert not any(shard.is_here for shard in rows.mapped)
    copy = pickle.loads(pickle.dumps(data))
    assert all(shard.is_here for shard in rows.mapped)
    check_rows(copy)
