import os
import time
from contextlib import ExitStack

import pytest
import torch
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.store import collector, opening, shard_writer
from frostline.caching.store.collector import collect
from frostline.caching.store.manifest import Manifest, manifest_names, read_newest
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.shards import Shards
from frostline.core import io
from helpers_caching import Masked, MaskedPart, Part, dataset, fill, shards


def recipe_folder(root):
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    return folder


def age(path, hours=2):
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def dead_and_live(root):
    needed = set(read_newest(recipe_folder(root) / "manifests")[1].names())
    sizes = {path.name: path.stat().st_size for path in shards(root)}
    return sum(size for name, size in sizes.items() if name not in needed), sum(sizes[name] for name in needed)


def orphan(root, value=1.0):
    own = Shards(recipe_folder(root) / "shards")
    with ExitStack() as hold:
        path = own.path(own.write({"x": torch.full((5,), value)}, hold))
    own.keep_only(set())
    return path


def test_what_no_manifest_lists_goes_when_it_is_old(tmp_path):
    fill(tmp_path)
    young, old = orphan(tmp_path, 1.0), orphan(tmp_path, 2.0)
    age(old)
    size = old.stat().st_size
    assert collect(recipe_folder(tmp_path)) == size
    assert (young.exists(), old.exists()) == (True, False)
    assert fill(tmp_path).figures.computed == 0


def test_what_is_written_and_not_yet_named_stays_whatever_the_clock_says(tmp_path, monkeypatch):
    monkeypatch.setattr(collector, "_MIN_AGE_S", -60.0)  # another machine's clock is ahead, or a merge takes hours
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    real, seen = write_manifest, []

    def named_late(folder, manifest, sharing):
        seen.append(collect(folder.parent))
        return real(folder, manifest, sharing)

    monkeypatch.setattr(shard_writer, "write_manifest", named_late)
    monkeypatch.setattr(opening, "write_manifest", named_late)
    data = fill(tmp_path, MaskedPart(), Masked(), batch_size=8)
    assert len(seen) >= 7  # five shards, a snapshot, a merge
    assert seen == [0] * len(seen)
    assert torch.equal(data[7][0][0], Masked()[7]["x"] * 2)
    assert fill(tmp_path, MaskedPart(), Masked()).figures.computed == 0


def test_what_is_needed_or_mapped_stays_however_old(tmp_path):
    data = fill(tmp_path)
    mapped, reader = orphan(tmp_path), Shards(recipe_folder(tmp_path) / "shards")
    reader.open(mapped.name)
    for path in shards(tmp_path):
        age(path)
    assert collect(recipe_folder(tmp_path)) == 0
    reader.keep_only(set())
    assert collect(recipe_folder(tmp_path)) > 0
    assert len(shards(tmp_path)) == 1
    assert len(data) == len(list(data.loader(1)))


def test_what_a_manifest_lists_just_before_it_would_go_stays(tmp_path, monkeypatch):
    fill(tmp_path)
    path = orphan(tmp_path)
    age(path)
    real = collector._is_locked

    def listed_meanwhile(own, stack):
        write_manifest(recipe_folder(tmp_path) / "manifests", Manifest(snapshots=(path.name,)))
        return real(own, stack)

    monkeypatch.setattr(collector, "_is_locked", listed_meanwhile)
    assert collect(recipe_folder(tmp_path)) == 0
    assert path.exists()


def test_on_a_disk_without_locks_nothing_goes(tmp_path, monkeypatch):
    fill(tmp_path)
    path = orphan(tmp_path)
    age(path)

    def without_locks(function, *arguments, **options):
        if function.__name__ == "flock":
            raise OSError(37, "No locks available")
        return function(*arguments, **options)

    monkeypatch.setattr(io, "call", without_locks)
    assert collect(recipe_folder(tmp_path)) == 0
    assert path.exists()


@pytest.mark.parametrize("part", [MaskedPart, Part])
def test_forty_folds_leave_no_more_dead_bytes_than_live_ones(tmp_path, part):
    for fold in range(40):
        inputs = [dataset(200)[at] for at in range(fold, 100 + fold)]
        data = fill(tmp_path, part(), Masked(fold, 100 + fold) if part is MaskedPart else inputs)
    dead, alive = dead_and_live(tmp_path)
    assert dead <= alive
    assert len(data) == 100
    assert len(manifest_names(recipe_folder(tmp_path) / "manifests")) <= collector._MAX_MANIFESTS + 1


def test_a_fill_of_many_shards_leaves_few_manifests_and_few_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    count = 150
    inputs = torch.arange(6.0 * count).view(count, 6)
    data = fill(tmp_path, data=TensorDataset(inputs, torch.zeros(count)), batch_size=1)
    manifests = list((recipe_folder(tmp_path) / "manifests").iterdir())
    assert len(manifests) <= collector._MAX_MANIFESTS
    assert sum(path.stat().st_size for path in manifests) < 400 * count
    dead, alive = dead_and_live(tmp_path)
    assert dead <= alive
    assert len(data._gatherer.names) == 1
    assert torch.equal(torch.cat([f[0] for f, _ in data.loader(9)]), inputs * 2)


def test_one_manifest_says_what_many_said(tmp_path):
    for count in range(1, 50):
        fill(tmp_path, data=TensorDataset(*(tensor[count - 1 : count] for tensor in dataset(60).tensors)))
    folder = recipe_folder(tmp_path) / "manifests"
    assert len(manifest_names(folder)) <= collector._MAX_MANIFESTS + 1
    assert sum(read_newest(folder)[1].rows) == 49
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_a_disk_that_fails_leaves_everything_for_the_next_time(tmp_path, monkeypatch):
    fill(tmp_path)
    path = orphan(tmp_path)
    age(path)

    def failing(function, *arguments, **options):
        if function is os.unlink:
            raise OSError(30, "Read-only file system")
        return function(*arguments, **options)

    monkeypatch.setattr(io, "call", failing)
    assert collect(recipe_folder(tmp_path)) == 0
    assert path.exists()
