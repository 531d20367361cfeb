import pytest
import torch

import frostline as fl
from frostline.caching.manifests import Manifest, publish, read_newest, with_shard, with_snapshot, without_shard
from helpers_caching import fill


def test_a_torn_manifest_is_passed_over_and_said(tmp_path):
    fill(tmp_path)
    manifests = sorted(tmp_path.glob("*/manifests/*.json"))
    newest = manifests[-1]
    (newest.parent / "00000099.json").write_bytes(newest.read_bytes()[:50])
    data = fill(tmp_path)
    assert "the manifest before it is used" in data.notes[0]
    assert data.figures.computed == 0
    (newest.parent / "00000100.json").write_text(newest.read_text().replace('"rows"', '"sown"'))
    assert fill(tmp_path).figures.computed == 0


def test_a_manifest_of_the_future_is_refused(tmp_path):
    fill(tmp_path)
    newest = sorted(tmp_path.glob("*/manifests/*.json"))[-1]
    (newest.parent / "00000099.json").write_text(newest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(fl.CacheError, match="written by a newer version"):
        fill(tmp_path)


def test_numbers_go_up_and_the_newest_counts(tmp_path):
    for count in range(3):
        publish(tmp_path, lambda old, at=count: with_shard(old, f"{at:064x}.safetensors", at))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{at:08d}.json" for at in (1, 2, 3)]
    number, manifest, notes = read_newest(tmp_path)
    assert (number, manifest.rows, notes) == (3, (0, 1, 2), ())
    assert manifest.written_by.startswith(f"torch {torch.__version__}, ")


def test_a_builder_that_was_overtaken_adds_to_what_the_other_wrote(tmp_path):
    names = [f"{at:064x}.safetensors" for at in range(2)]
    overtaken = []

    def change(old):
        if not overtaken:
            overtaken.append(publish(tmp_path, lambda other: with_shard(other, names[0], 5)))
        return with_shard(old, names[1], 7)

    assert publish(tmp_path, change).shards == tuple(names)


def test_a_shard_is_listed_once_and_leaves_with_its_rows():
    one = with_shard(with_shard(Manifest(), "a", 3), "b", 4)
    assert with_shard(one, "a", 3) == one
    assert without_shard(one, "a") == Manifest(shards=("b",), rows=(4,))
    assert without_shard(one, "c") == one


def test_the_newest_eight_snapshots_are_kept():
    manifest = Manifest()
    for at in range(10):
        manifest = with_snapshot(manifest, str(at), "shared" if at == 0 else None, ())
    assert manifest.snapshots == tuple("23456789")
    assert with_snapshot(manifest, "5", None, ()).snapshots == manifest.snapshots
    assert manifest.shared == "shared"
