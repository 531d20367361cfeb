import pytest

import frostline as fl
from frostline.caching.store import collector, manifest_writer
from frostline.caching.store.collector import collect
from frostline.caching.store.manifest import MAX_MANIFEST_BYTES, Manifest, manifest_names, read_contents, read_newest
from frostline.caching.store.manifest_writer import in_parts, write_manifest

NAMES = [f"{number:064x}.safetensors" for number in range(40)]
A, B = NAMES[:2]


@pytest.fixture
def folder(tmp_path):
    """The manifests of a recipe, with files of shards beside them."""
    (tmp_path / "recipe" / "shards").mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "recipe" / "shards" / name).write_text("")
    return tmp_path / "recipe" / "manifests"


def test_two_writers_of_one_number_both_count(folder, monkeypatch):
    monkeypatch.setattr(manifest_writer, "manifest_names", lambda _: [])  # neither sees the other
    for name in (A, B):
        write_manifest(folder, Manifest(shards=(name,), rows=(1,)))
    monkeypatch.undo()
    assert [name[:8] for name in manifest_names(folder)] == ["00000001", "00000001"]
    assert sorted(read_newest(folder)[1].shards) == [A, B]


def long_list():
    """30 shards, each of which replaces another one that is still there, and facts beside them."""
    records = tuple((old, (NAMES[at],)) for at, old in enumerate(NAMES[30:35]))
    return Manifest(shards=tuple(NAMES[:30]), rows=tuple(range(30)), replaced=records, snapshots=(NAMES[36], NAMES[35]),
                    evicted=tuple(NAMES[30:37]), tensors=(("low", (4,), "float32", False),), views=3)  # fmt: skip


def told(manifest):
    return {**vars(manifest), "recipe": "", "written_by": "", "evicted": (), "tensors": len(manifest.tensors)}


def test_a_list_that_is_too_long_for_one_file_is_said_by_several(folder, monkeypatch):
    whole = long_list()
    assert in_parts(whole) == [whole]
    monkeypatch.setattr(manifest_writer, "_MOST_NAMES", 7)
    written = write_manifest(folder, whole)
    assert len(written) == 5 + 2 + 1 + 1  # shards, records, evicted ones, snapshots
    assert list(written) == manifest_names(folder)
    found = read_contents(folder)
    assert told(found.manifest) == told(whole)
    assert set(whole.evicted) <= found.listed


def test_a_writer_that_dies_between_two_files_hides_no_row(folder, monkeypatch):
    old = Manifest(shards=tuple(NAMES[30:35]), rows=(9,) * 5)
    write_manifest(folder, old)
    monkeypatch.setattr(manifest_writer, "_MOST_NAMES", 7)
    for number in range(len(in_parts(long_list()))):
        found = read_newest(folder)[1]
        assert {name if name in found.shards else dict(found.replaced)[name][0] for name in old.shards} <= set(
            found.shards
        )
        part = in_parts(long_list())[number]
        write_manifest(folder, part)
    assert set(read_newest(folder)[1].shards) == set(NAMES[:30])


def test_many_manifests_are_summed_up_and_those_of_a_long_list_are_not_written_again(folder, monkeypatch):
    monkeypatch.setattr(manifest_writer, "_MOST_NAMES", 7)
    monkeypatch.setattr(collector, "_MAX_MANIFESTS", 3)
    for at, name in enumerate(NAMES[:30]):
        write_manifest(folder, Manifest(shards=(name,), rows=(at,)))
    collect(folder.parent)
    names = manifest_names(folder)
    assert len(names) == 5
    collect(folder.parent)
    assert manifest_names(folder) == names
    found = read_newest(folder)[1]
    assert (found.shards, found.rows) == (tuple(NAMES[:30]), tuple(range(30)))


def test_the_longest_list_of_one_file_is_read(folder):
    most = manifest_writer._MOST_NAMES
    names = tuple(f"{number:064x}.safetensors" for number in range(most))
    shards = Manifest(shards=names, rows=(10**8,) * most, written_by="x" * 200)
    records = Manifest(replaced=tuple((names[at], (names[at + 1],)) for at in range(0, most, 2)))
    for own in (shards, records):
        assert in_parts(own) == [own]
        assert len(manifest_writer._encoded(own, folder, None)[1]) < MAX_MANIFEST_BYTES - 2**20


def test_what_no_reader_would_read_is_not_published(folder):
    write_manifest(folder, Manifest(shards=(A,), rows=(1,)))
    before = manifest_names(folder)
    tensors = tuple((f"{number}", (1, 2, 3), "float32", False) for number in range(40_000))
    with pytest.raises(fl.CacheError, match="larger than any that is read") as error:
        write_manifest(folder, Manifest(shards=(B,), rows=(1,), tensors=tensors))
    assert "40000 tensors" in error.value.received
    assert manifest_names(folder) == before
    assert read_newest(folder)[1].shards == (A,)
