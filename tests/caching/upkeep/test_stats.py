import json

import pytest

import frostline as fl
from frostline.caching.store import shard_writer
from frostline.caching.upkeep.stats import CELLS
from helpers_caching import N, Part, dataset, fill, shards
from helpers_commands import run


def files(folder, pattern):
    return sum(path.stat().st_size for path in folder.glob(pattern))


def test_counts_are_those_of_the_files(tmp_path):
    fill(tmp_path)
    fill(tmp_path, Part(3.0), dataset(N // 2))
    found = fl.FeatureCache(tmp_path).stats()
    assert sorted(own.rows for own in found.recipes) == [N // 2, N]
    assert (found.rows, found.shards, found.leftovers) == (N + N // 2, 2, 0)
    assert found.live_bytes == files(tmp_path, "*/*/*")
    assert (found.dead_bytes, found.leftover_bytes) == (0, 0)
    assert found.used == max(entry.used for entry in fl.FeatureCache(tmp_path).entries())
    assert len(found.recipes[0].cells()) == len(CELLS)


def test_what_was_replaced_is_dead_and_what_was_left_is_a_leftover(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)  # a shard per batch, merged at the end
    data = fill(tmp_path, batch_size=8)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    live = sum(path.stat().st_size for path in shards(tmp_path) if path.name in data._gatherer.names)
    replaced = folder / "shards" / f"{'a' * 64}.safetensors"
    replaced.write_bytes(b"x" * 100)
    unfinished = folder / "shards" / f"{'b' * 64}.safetensors.{'0' * 32}.part"
    unfinished.write_bytes(b"x" * 7)
    (folder / "set-aside").mkdir()
    (folder / "set-aside" / f"{'c' * 64}.safetensors").write_bytes(b"x" * 5)
    (folder / "shards" / "notes.txt").write_text("of somebody else")
    found = fl.FeatureCache(tmp_path).stats()
    assert found.dead_bytes == sum(path.stat().st_size for path in shards(tmp_path)) - live
    assert found.dead_bytes >= 100
    assert (found.leftovers, found.leftover_bytes) == (2, 12)
    assert found.live_bytes == live + files(folder, "manifests/*.json")
    assert "2 unfinished or damaged files" in str(found)
    assert "replaced shards" in str(found)


def test_no_shard_is_opened(tmp_path, monkeypatch):
    fill(tmp_path)
    for path in shards(tmp_path):
        path.write_bytes(b"damaged")
    assert fl.FeatureCache(tmp_path).stats().rows == N


def test_a_manifest_of_a_newer_version_is_refused(tmp_path):
    fill(tmp_path)
    (path,) = tmp_path.glob("*/manifests/*.json")
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(fl.CacheError, match="newer version"):
        fl.FeatureCache(tmp_path).stats()


def test_the_command_counts_what_the_call_counts(tmp_path):
    fill(tmp_path)
    told = json.loads(run("cache", "stats", "--cache", tmp_path, "--json").stdout)
    found = fl.FeatureCache(tmp_path).stats()
    assert (told["rows"], told["live_bytes"]) == (found.rows, found.live_bytes)
    assert told["recipes"][0]["recipe"] == found.recipes[0].recipe
    assert f"1 recipe, {N} rows in 1 shard," in run("cache", "stats", "--cache", tmp_path).stdout


def test_an_empty_cache_counts_nothing(tmp_path):
    assert str(fl.FeatureCache(tmp_path).stats()) == "0 recipes, 0 rows in 0 shards, 0.0 MB"
