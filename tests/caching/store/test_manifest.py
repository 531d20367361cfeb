import json
import shutil

import pytest
import torch

import frostline as fl
from frostline.caching.store import manifest as manifest_files
from frostline.caching.store.manifest import (
    Manifest,
    manifest_names,
    read_contents,
    read_newest,
    with_snapshot,
    without_shards,
)
from frostline.caching.store.manifest_writer import write_manifest
from frostline.core import io
from helpers_caching import N, Part, dataset, fill

A, B, C, D = (f"{letter * 64}.safetensors" for letter in "abcd")


@pytest.fixture
def folder(tmp_path):
    """The manifests of a recipe, with files of shards beside them."""
    (tmp_path / "recipe" / "shards").mkdir(parents=True)
    for name in (A, B, C, D):
        (tmp_path / "recipe" / "shards" / name).write_text("")
    return tmp_path / "recipe" / "manifests"


def add(folder, *shards, replaced=()):
    write_manifest(folder, Manifest(shards=shards, rows=tuple(1 for _ in shards), replaced=replaced))
    return read_newest(folder)[1]


def newest(root):
    return sorted(root.glob("*/manifests/*.json"))[-1]


def test_a_torn_manifest_is_passed_over_and_said(tmp_path):
    fill(tmp_path)
    path = newest(tmp_path)
    (path.parent / "00000099.json").write_bytes(path.read_bytes()[:50])
    data = fill(tmp_path)
    assert "00000099.json is not whole and was passed over" in data.notes[0]
    assert data.figures.computed == 0
    (path.parent / "00000100.json").write_text(path.read_text().replace('"rows"', '"sown"'))
    assert fill(tmp_path).figures.computed == 0


def test_a_manifest_of_the_future_is_refused(tmp_path):
    fill(tmp_path)
    path = newest(tmp_path)
    (path.parent / "00000099.json").write_text(path.read_text().replace('"format":2', '"format":3'))
    with pytest.raises(fl.CacheError, match="written by a newer version"):
        fill(tmp_path)


@pytest.mark.parametrize("name", ["99999999.json", "9" * 18 + ".json"])
def test_any_number_can_be_followed(tmp_path, name):
    fill(tmp_path)
    (newest(tmp_path).parent / name).touch()
    assert fill(tmp_path, data=dataset(N + 5)).figures.computed == 5
    assert fill(tmp_path, data=dataset(N + 5)).figures.computed == 0
    assert len(list(newest(tmp_path).parent.iterdir())) == 3


def content(**changed):
    whole = {"recipe": "recipe", "shards": [A], "rows": [1], "replaced": [], "shared": None, "snapshots": [],
             "evicted": [], "tensors": [], "written_by": ""} | changed  # fmt: skip
    text = json.dumps(whole, sort_keys=True)
    return {"format": 2, "digest": manifest_files.digest_of(text), "content": whole}


ODD = {
    "a list": [], "a number": 5, "no content": {"format": 2}, "format as text": {"format": "2"},
    "format 1": {"format": 1}, "rows as floats": content(rows=[1.0]), "rows below zero": content(rows=[-1]),
    "rows as text": content(rows="1"), "rows as truth": content(rows=[True]), "too few rows": content(rows=[]),
    "a name of a path": content(shards=["../../" + A]), "a shard twice": content(shards=[A, A], rows=[1, 1]),
    "names as numbers": content(shards=[1]), "another recipe": content(recipe="other"),
    "replaced as numbers": content(replaced=[5]), "nothing as snapshots": content(snapshots=None),
    "infinity": json.loads(json.dumps(content()).replace("[1]", "[1e999]")),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_manifests_that_are_odd_are_passed_over(folder, name):
    add(folder, B)
    (folder / f"00000007-{'0' * 16}.json").write_text(json.dumps(ODD[name]))
    number, manifest, notes = read_newest(folder)
    assert (number, manifest.shards, len(notes)) == (7, (B,), 1)
    assert "not whole" in notes[0]


def test_what_cannot_be_read_is_not_torn(folder, monkeypatch):
    add(folder, A)
    real = io.read_bytes

    def failing(path, **options):
        if path.suffix == ".json":
            raise OSError(5, "Input/output error")
        return real(path, **options)

    monkeypatch.setattr(io, "read_bytes", failing)
    with pytest.raises(fl.CacheError, match="Cannot read 00000001-"):
        read_newest(folder)


def test_numbers_go_up_and_all_of_them_count(folder):
    for at, name in enumerate((A, B, C)):
        write_manifest(folder, Manifest(shards=(name,), rows=(at,)))
    assert [name[:8] for name in manifest_names(folder)] == [f"{at:08d}" for at in (1, 2, 3)]
    number, manifest, notes = read_newest(folder)
    assert (number, manifest.shards, manifest.rows, notes) == (3, (A, B, C), (0, 1, 2), ())
    assert manifest.written_by.startswith(f"torch {torch.__version__}, ")


def test_two_caches_can_be_copied_into_each_other(tmp_path):
    first, second = dataset(60).tensors[0][:30], dataset(60).tensors[0][30:]
    for name, inputs in (("one", first), ("other", second)):
        fill(tmp_path / name, data=torch.utils.data.TensorDataset(inputs, torch.zeros(30)))
    shutil.copytree(tmp_path / "one", tmp_path / "other", dirs_exist_ok=True)
    assert fill(tmp_path / "other", data=dataset(60)).figures.computed == 0


def test_a_manifest_that_goes_while_it_is_read_is_looked_for_again(folder, monkeypatch):
    add(folder, A)
    real = manifest_files._parse

    def collected(path, *signer):
        monkeypatch.setattr(manifest_files, "_parse", real)
        write_manifest(folder, Manifest(shards=(A, B), rows=(1, 1)))
        path.unlink()
        return real(path, *signer)

    monkeypatch.setattr(manifest_files, "_parse", collected)
    assert sorted(read_newest(folder)[1].shards) == [A, B]


def test_a_folder_that_never_rests_is_told(folder, monkeypatch):
    add(folder, A)
    (path,) = folder.iterdir()
    text, real = path.read_text(), manifest_files._parse

    def flickering(name, *signer):
        found = real(name, *signer)
        name.unlink()
        monkeypatch.setattr(manifest_files, "manifest_names", relisted)
        return found

    listed = manifest_names

    def relisted(own):
        names = listed(own)
        if not names:
            path.write_text(text)
            monkeypatch.setattr(manifest_files, "manifest_names", listed)
        return names

    monkeypatch.setattr(manifest_files, "_parse", flickering)
    with pytest.raises(fl.CacheError, match="change faster than they can be read"):
        read_contents(folder)


# What replaces what


def test_a_replaced_shard_counts_no_more_if_all_that_replace_it_are_there(folder):
    add(folder, A, B)
    assert add(folder, C, D, replaced=((A, (C, D)),)).shards == (B, C, D)
    (folder.parent / "shards" / D).unlink()
    assert read_newest(folder)[1].shards == (A, B, C, D)


def test_a_chain_holds_when_its_middle_was_collected(folder):
    add(folder, A)
    add(folder, B, replaced=((A, (B,)),))
    add(folder, C, replaced=((B, (C,)),))
    for name in (A, B):
        (folder.parent / "shards" / name).unlink()
    assert read_newest(folder)[1].shards == (C,)


def test_two_merges_that_replace_each_others_shards_lose_nothing(folder):
    add(folder, A, B, C)
    add(folder, replaced=((A, (B,)),))
    add(folder, replaced=((B, (A,)),))
    assert len({A, B} & set(read_newest(folder)[1].shards)) == 1
    add(folder, replaced=((B, (C,)), (C, (A,))))
    assert len({A, B, C} & set(read_newest(folder)[1].shards)) == 1


def test_a_shard_that_no_manifest_lists_replaces_nothing(folder):
    add(folder, A, replaced=((A, (B,)),))
    assert read_newest(folder)[1].shards == (A,)


def test_a_shard_leaves_with_its_rows():
    one = Manifest(shards=("a", "b"), rows=(3, 4))
    assert without_shards(one, ["a"]) == Manifest(shards=("b",), rows=(4,))
    assert without_shards(one, ["c"]) == one


def test_the_newest_eight_snapshots_are_kept():
    manifest = Manifest()
    for at in range(10):
        manifest = with_snapshot(manifest, str(at), "shared" if at == 0 else None, ())
    assert manifest.snapshots == tuple("23456789")
    assert with_snapshot(manifest, "5", None, ()).snapshots == tuple("23467895")
    assert manifest.shared == "shared"


def test_files_of_another_recipe_are_refused(tmp_path):
    data, other = fill(tmp_path), fill(tmp_path, Part(3.0))
    shutil.copytree(other.figures.path, data.figures.path, dirs_exist_ok=True)
    again = fill(tmp_path)
    assert any("the recipe" in note for note in again.notes)
    assert again.figures.computed == 0
    assert torch.equal(again[5][0][0], dataset()[5][0] * 2)


def test_a_large_manifest_of_tiny_values_is_passed_over_before_it_takes_memory(tmp_path):
    folder = tmp_path / ("a" * 32) / "manifests"
    folder.mkdir(parents=True)
    (folder / "00000001.json").write_bytes(b"[" + b"[]," * 400_000 + b"[]]")
    (note,) = read_newest(folder)[2]
    assert "more values than a file of this size may have" in note
