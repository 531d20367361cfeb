from pathlib import Path

import frostline as fl
from frostline.caching.manifests import Manifest, read_newest
from frostline.caching.opening import open_folder
from frostline.caching.shards import Shards
from helpers_caching import N, fill, shards


def test_a_damaged_file_that_no_manifest_lists_is_replaced(tmp_path):
    data = fill(tmp_path)
    folder = Path(data.figures.path)
    for path in (folder / "manifests").iterdir():
        path.unlink()
    for path in shards(tmp_path):
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert fill(tmp_path).figures.computed == N
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_opening_makes_the_folders_and_sweeps_what_the_dead_left(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "x.999999999-abc.part").write_text("")
    opened = open_folder(tmp_path, Shards(tmp_path / "shards"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["manifests", "shards"]
    assert (opened.manifest, opened.notes, opened.shared(), opened.snapshots()) == (Manifest(), [], {}, [])


def test_a_damaged_snapshot_is_set_aside_and_the_rows_stay(tmp_path):
    folder = Path(fill(tmp_path).figures.path)
    _, manifest, _ = read_newest(folder / "manifests")
    (folder / "shards" / manifest.snapshots[0]).write_bytes(b"damaged")
    opened = open_folder(folder, Shards(folder / "shards"))
    assert (opened.manifest.snapshots, opened.manifest.shards) == ((), manifest.shards)
    assert "was set aside" in opened.notes[0]
    assert (folder / "set-aside" / manifest.snapshots[0]).read_bytes() == b"damaged"
    assert fill(tmp_path).figures.computed == 0
