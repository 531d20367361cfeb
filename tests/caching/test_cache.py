import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

import frostline as fl
from frostline.caching.store import shard_writer
from frostline.caching.store.collector import collect
from frostline.caching.store.shards import Shards
from frostline.core import io, locks
from helpers_caching import Masked, MaskedPart, N, Part, dataset, fill, shards


def test_fill_leaves_the_generators_alone_cold_and_warm(tmp_path):
    for _ in range(2):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        fill(tmp_path)
        assert torch.equal(torch.rand(3), expected)


def test_an_iterable_dataset_and_a_batch_of_zero_are_refused(tmp_path):
    with pytest.raises(fl.DataError, match="not a map-style dataset"):
        fill(tmp_path, data=iter([1]))
    with pytest.raises(fl.DataError, match="batch_size is not a whole number of 1 or more"):
        fill(tmp_path, batch_size=0)


def test_unwritable_roots_are_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(fl.CacheError, match="Cannot create the folder"):
        fill(file)


def test_purge_deletes_what_is_ours_and_nothing_else(tmp_path):
    fill(tmp_path)
    fill(tmp_path, Part(3.0))
    (tmp_path / "mine.txt").write_text("keep")
    cache = fl.FeatureCache(tmp_path)
    entries = cache.entries()
    assert all(entry.tensors for entry in entries)
    assert [entry.rows for entry in entries] == [N, N]
    assert cache.purge(entries[0].recipe[:8]) > 0
    assert [entry.recipe for entry in cache.entries()] == [entries[1].recipe]
    with pytest.raises(fl.CacheError, match="No recipe begins with"):
        cache.purge("zz")
    with pytest.raises(fl.CacheError, match="An empty text names no recipe"):
        cache.purge("")
    notes = tmp_path / entries[1].recipe / "notes.txt"
    notes.write_text("keep")
    cache.purge()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.txt", "notes.txt"]
    assert cache.entries() == ()


def test_files_are_for_the_owner_only(tmp_path):
    fill(tmp_path / "new")
    for path in (tmp_path / "new").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("part", [None, "split", fl.Split, {}])
def test_what_is_no_frozen_part_is_refused(tmp_path, part):
    with pytest.raises(fl.DataError, match="This is not a frozen part"):
        fl.FeatureCache(tmp_path).fill(part, dataset(), progress=False)


def test_a_folder_with_a_name_of_ours_is_left_alone_by_a_purge(tmp_path):
    fill(tmp_path)
    (entry,) = fl.FeatureCache(tmp_path).entries()
    (tmp_path / entry.recipe / "shards" / f"{'a' * 64}.safetensors").mkdir()
    assert fl.FeatureCache(tmp_path).purge() > 0
    assert fl.FeatureCache(tmp_path).entries() == ()
    assert (tmp_path / entry.recipe / "shards" / f"{'a' * 64}.safetensors").is_dir()


def read_only(root):
    """Nothing can be made, changed or deleted in the folder (root may do all, so the calls themselves refuse)."""

    def refusing(function, *arguments, **options):
        writes = {"mkdir", "unlink", "replace", "link", "rename"}
        is_write = function is os.open and arguments[1] & (os.O_CREAT | os.O_RDWR | os.O_WRONLY)
        if is_write or getattr(function, "__name__", "") in writes:
            raise OSError(errno.EROFS, "Read-only file system")
        return function(*arguments, **options)

    return refusing


@pytest.mark.parametrize("part", [Part, MaskedPart])
def test_a_read_only_cache_serves_any_subset_of_what_it_stores(tmp_path, monkeypatch, part):
    fill(tmp_path, part(), Masked(0, 30) if part is MaskedPart else None)
    monkeypatch.setattr(io, "call", read_only(tmp_path))
    subset = Masked(5, 20) if part is MaskedPart else [dataset()[at] for at in range(5, 20)]
    data = fill(tmp_path, part(), subset)
    assert (data.figures.computed, data.figures.reused) == (0, 15)
    rows = torch.cat([features[0] for features, _ in data.loader(4)])
    pool = dataset(200 if part is MaskedPart else N).tensors[0]
    assert torch.equal(rows, pool[5:20] * 2)
    if part is MaskedPart:
        assert any("not remembered" in note and "Read-only" in note for note in data.notes)
    with pytest.raises(fl.CacheError, match="Cannot write") as error:
        fill(tmp_path, part(), Masked(0, 60) if part is MaskedPart else dataset(N + 5))
    assert "not read-only" in error.value.do


def test_a_relative_root_is_resolved_once(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cache = fl.FeatureCache("features")
    cache.fill(Part(), dataset(), progress=False)
    monkeypatch.chdir(tmp_path / "there")
    assert cache.fill(Part(), dataset(), progress=False).figures.computed == 0
    assert not (tmp_path / "there" / "features").exists()


class Purging(Part):
    """Somebody purges the cache while this part computes."""

    def __init__(self, root, published):
        super().__init__()
        self.root, self.published = root, published

    def extract(self, inputs):
        if len(shards(self.root)) == self.published:
            fl.FeatureCache(self.root).purge()
        return super().extract(inputs)


@pytest.mark.parametrize("published", [1, 3, 4])
def test_a_fill_beside_a_purge_never_says_that_rows_are_there(tmp_path, monkeypatch, published):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    with pytest.raises(fl.CacheError, match=r"Rows of this fill are gone|Cannot"):
        fill(tmp_path, Purging(tmp_path, published), batch_size=8)
    data = fill(tmp_path)
    assert torch.equal(torch.cat([f[0] for f, _ in data.loader(7)]), dataset().tensors[0] * 2)


def test_training_goes_on_beside_a_purge(tmp_path):
    data = fill(tmp_path)
    batches = iter(data.loader(8))
    next(batches)
    fl.FeatureCache(tmp_path).purge()
    assert torch.equal(torch.cat([f[0] for f, _ in batches]), dataset().tensors[0][8:] * 2)
    elsewhere = pickle.loads(pickle.dumps(data))  # as a worker process opens it
    with pytest.raises(fl.CacheError, match="damaged or missing"):
        list(elsewhere.loader(8))


def test_a_purge_leaves_what_is_being_written(tmp_path):
    folder = Path(fill(tmp_path).figures.path)
    live, left = (folder / "shards" / f"{'0' * 64}.safetensors.{letter * 32}.part" for letter in "ab")
    left.touch()
    with live.open("w") as file:
        assert locks.lock(file.fileno(), is_exclusive=True)
        fl.FeatureCache(tmp_path).purge()
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [live.name]


def test_verify_beside_a_fill_raises_no_alarm(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 1)
    fill(tmp_path, batch_size=8)
    real, grown = Shards.open, []

    def open_beside_a_fill(self, name):
        if len(grown) < 3:
            monkeypatch.setattr(Shards, "open", real)
            grown.append(fill(tmp_path, data=dataset(N + 5 * len(grown) + 5), batch_size=4).figures.computed)
            for path in tmp_path.glob("*/shards/*"):  # what an hour later would be collected
                os.utime(path, (0, 0))
            collect(next(tmp_path.iterdir()))
            monkeypatch.setattr(Shards, "open", open_beside_a_fill)
        return real(self, name)

    monkeypatch.setattr(Shards, "open", open_beside_a_fill)
    assert fl.FeatureCache(tmp_path).verify() == ()
    assert grown[0] == 5


def test_verify_tells_what_it_could_not_read(tmp_path, monkeypatch):
    fill(tmp_path)

    def failing(function, *arguments, **options):
        if function is os.readv:
            raise OSError(errno.EIO, "Input/output error")
        return function(*arguments, **options)

    monkeypatch.setattr(io, "call", failing)
    (problem,) = fl.FeatureCache(tmp_path).verify()
    assert "could not be read now" in problem


def test_a_recipe_is_named_by_its_first_letters_if_they_are_its_alone(tmp_path):
    recipes, shared = [], ""
    while not shared or len(recipes) < 3:
        fill(tmp_path, Part(float(len(recipes))))
        recipes = [entry.recipe for entry in fl.FeatureCache(tmp_path).entries()]
        shared = next((own[0] for own in recipes if sum(other[0] == own[0] for other in recipes) > 1), "")
    with pytest.raises(fl.CacheError, match=f"More than one recipe begins with '{shared}'") as error:
        fl.FeatureCache(tmp_path).purge(shared)
    assert recipes[0][:12] in error.value.received
    with pytest.raises(fl.DataError, match="recipe"):
        fl.FeatureCache(tmp_path).purge(3)
    size = sum(path.stat().st_size for path in (tmp_path / recipes[1]).rglob("*") if path.is_file())
    assert fl.FeatureCache(tmp_path).purge(recipes[1]) == size
    assert not (tmp_path / recipes[1]).exists()
    assert len(fl.FeatureCache(tmp_path).entries()) == len(recipes) - 1
    with pytest.raises(fl.CacheError) as error:
        fl.FeatureCache(tmp_path / "empty").purge("a")
    assert error.value.received == "an empty cache"


def test_folders_that_are_no_recipes_are_not_listed(tmp_path):
    fill(tmp_path)
    (tmp_path / ("a" * 32)).mkdir()
    (tmp_path / ("b" * 32)).touch()
    (tmp_path / "manifests").mkdir()
    assert len(fl.FeatureCache(tmp_path).entries()) == 1
    assert fl.FeatureCache(tmp_path).verify() == ()
    fl.FeatureCache(tmp_path).purge()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a" * 32, "b" * 32, "manifests"]


def test_a_cache_that_was_copied_to_another_process_fills_there(tmp_path):
    cache = pickle.loads(pickle.dumps(fl.FeatureCache(str(tmp_path))))
    assert repr(cache) == f"FeatureCache({str(tmp_path)!r})"
    assert cache.fill(Part(), dataset(), progress=False).figures.computed == N


def test_what_a_purge_leaves_is_not_counted(tmp_path):
    folder = Path(fill(tmp_path).figures.path)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    (folder / "shards" / "mine.txt").write_text("x" * 1000)
    assert fl.FeatureCache(tmp_path).purge() == size


@pytest.mark.parametrize("options", [{"num_workers": -1}, {"progress": 1}, {"batch_size": 2.5}])
def test_options_that_make_no_sense_are_refused_before_anything_is_made(tmp_path, options):
    with pytest.raises(fl.DataError, match=next(iter(options))):
        fl.FeatureCache(tmp_path / "new").fill(Part(), dataset(), **{"progress": False, **options})
    assert not (tmp_path / "new").exists()


def test_a_current_folder_that_is_gone_is_told(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(fl.CacheError, match="Cannot find features") as error:
        fl.FeatureCache("features")
    assert "No such file" in error.value.received
    assert fill(tmp_path / "features").figures.computed == N  # a whole path needs no current folder
