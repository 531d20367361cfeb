import pytest
import torch

import frostline as fl
from helpers_caching import N, Part, dataset, fill


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
    assert [entry.rows for entry in entries] == [N, N]
    assert cache.purge(entries[0].recipe[:8]) > 0
    assert [entry.recipe for entry in cache.entries()] == [entries[1].recipe]
    with pytest.raises(fl.CacheError, match="No recipe begins with"):
        cache.purge("zz")
    with pytest.raises(fl.CacheError, match="No recipe begins with ''"):
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
