import errno
import hashlib
import json
import os
import resource
import socket
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.keys import recipe_key
from frostline.caching.location.use import USE_LOCK
from frostline.caching.store import shard_writer
from frostline.caching.store.manifest import Manifest, read_newest
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.opening import open_folder
from frostline.caching.store.shards import Shards
from frostline.core import io
from helpers_caching import Masked, MaskedPart, N, Part, dataset, fill, shards
from helpers_processes import run_script


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
    (tmp_path / "shards" / f"{'0' * 64}.safetensors.{'0' * 32}.part").write_text("")
    opened = open_folder(tmp_path, Shards(tmp_path / "shards"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["manifests", "shards"]
    assert (opened.manifest, opened.notes, opened.shared()) == (Manifest(), [], {})


def test_a_damaged_snapshot_is_set_aside_and_the_rows_stay(tmp_path):
    folder = Path(fill(tmp_path, MaskedPart(), Masked()).figures.path)
    _, manifest, _ = read_newest(folder / "manifests")
    (folder / "shards" / manifest.snapshots[0]).write_bytes(b"damaged")
    opened = open_folder(folder, Shards(folder / "shards"))
    assert (opened.manifest.snapshots, opened.manifest.shards) == ((), manifest.shards)
    assert "was set aside" in opened.notes[0]
    assert (folder / "set-aside" / manifest.snapshots[0]).read_bytes() == b"damaged"
    assert fill(tmp_path, MaskedPart(), Masked()).figures.computed == 0


ERRNOS = [errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.ESTALE, errno.EINTR, errno.EAGAIN]


@pytest.mark.parametrize("code", ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["open", "readv", "mmap"])
def test_a_shard_that_cannot_be_read_now_is_left_where_it_is(tmp_path, monkeypatch, name, code):
    fill(tmp_path)
    shard = shards(tmp_path)[-1]

    def failing(function, *arguments, **options):
        is_shard = name in ("mmap", "readv") or str(arguments[0]).endswith(shard.name)
        if function.__name__ == name and is_shard:
            raise OSError(code, os.strerror(code))
        return function(*arguments, **options)

    monkeypatch.setattr(io, "call", failing)
    with pytest.raises(fl.CacheError, match="Cannot (read|list|create)"):
        fill(tmp_path)
    monkeypatch.undo()
    assert shard.exists()
    assert fill(tmp_path).figures.computed == 0


def test_a_process_short_of_memory_sets_nothing_aside(tmp_path):
    part, wide = Part(), torch.arange(3000.0).view(-1, 1)
    part.frontier = (fl.FrontierTensor("low", (5000,), torch.float32, 20_000, False),)
    part.extract = lambda x: (x.repeat(1, 5000),)
    data = TensorDataset(wide, torch.arange(3000) % 3)
    fill(tmp_path, part, data, batch_size=500)  # 60 MB
    script = f"""
import os, resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import torch, frostline as fl
from helpers_caching import Part, fill
from helpers_processes import run_script
part = Part()
part.frontier = (fl.FrontierTensor("low", (5000,), torch.float32, 20_000, False),)
part.extract = lambda x: (x.repeat(1, 5000),)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + 40 * 2**20,) * 2)
data = torch.utils.data.TensorDataset(torch.arange(200.0).view(-1, 1), torch.zeros(200))
try:
    fill({str(tmp_path)!r}, part, data)
except fl.CacheError as error:
    sys.exit(0 if "Cannot allocate memory" in error.received else 2)
"""
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert fill(tmp_path, part, data).figures.computed == 0


def test_a_shard_that_is_replaced_while_it_is_opened_is_no_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 8 * 4 * 6)
    folder = Path(fill(tmp_path, batch_size=8).figures.path)
    monkeypatch.undo()
    real, names = Shards.open, read_newest(folder / "manifests")[1].shards

    def merged_meanwhile(self, name, **options):
        if name == names[-1]:
            monkeypatch.setattr(Shards, "open", real)
            monkeypatch.setattr(shard_writer, "_MAX_SMALL", 1)
            assert shard_writer.merge(open_folder(folder, Shards(folder / "shards")), [])
            for old in names:
                (folder / "shards" / old).unlink()
        return real(self, name)

    monkeypatch.setattr(Shards, "open", merged_meanwhile)
    opened = open_folder(folder, Shards(folder / "shards"))
    assert (sum(opened.manifest.rows), opened.notes) == (N, [])
    assert not (folder / "set-aside").exists()


HEADERS = {
    "a list": lambda entries: [], "infinity": lambda entries: {**entries, "low": {
        "dtype": "F32", "shape": ["inf"], "data_offsets": [0, 0]}},
    "no keys": lambda entries: {name: entry for name, entry in entries.items() if name != "sample_keys"},
    "fewer rows": lambda entries: {**entries, "low": {
        "dtype": "F32", "shape": [N - 1, 6], "data_offsets": [640, 640 + (N - 1) * 24]}},
    "another width": lambda entries: {**entries, "low": {
        "dtype": "F32", "shape": [N * 2, 3], "data_offsets": entries["low"]["data_offsets"]}},
    "another dtype": lambda entries: {**entries, "low": {**entries["low"], "dtype": "I32"}},
    "another recipe": lambda entries: {**entries, "__metadata__": {"recipe": "0" * 32}},
    "about as a list": lambda entries: {**entries, "__metadata__": []},
    "negative": lambda entries: {**entries, "low": {**entries["low"], "shape": [-N, -6]}},
    "no dtype": lambda entries: {**entries, "low": {"shape": [N, 6]}},
    "beyond the file": lambda entries: {**entries, "low": {
        "dtype": "F32", "shape": [10**9, 6], "data_offsets": [0, 24 * 10**9]}},
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_not_what_the_frontier_says_is_damage(tmp_path, name):
    folder = Path(fill(tmp_path).figures.path)
    (old,) = read_newest(folder / "manifests")[1].shards
    whole = (folder / "shards" / old).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    text = json.dumps(HEADERS[name](json.loads(whole[8 : 8 + length]))).replace('"inf"', "1e999").encode()
    text += b" " * (-(len(text) + 8) % 64)
    content = len(text).to_bytes(8, "little") + text + whole[8 + length :]
    (folder / "shards" / old).unlink()
    forged = f"{hashlib.sha256(content).hexdigest()}.safetensors"
    (folder / "shards" / forged).write_bytes(content)
    for path in (folder / "manifests").iterdir():
        path.unlink()
    write_manifest(folder / "manifests", Manifest(shards=(forged,), rows=(N,)))
    data = fill(tmp_path)
    assert data.figures.computed == N
    assert f"shard {forged[:12]} was set aside" in data.notes[0]
    assert torch.equal(torch.cat([f[0] for f, _ in data.loader(7)]), dataset().tensors[0] * 2)
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_links_and_pipes_in_place_of_a_shard_are_damage(tmp_path):
    fill(tmp_path)
    (shard,) = shards(tmp_path)
    kept = tmp_path / "elsewhere"
    shard.rename(kept)
    shard.symlink_to(kept)
    assert fill(tmp_path).figures.computed == N
    assert kept.exists()


def test_tensors_that_all_samples_share_are_remembered(tmp_path):
    part = Part()
    part.frontier += (fl.FrontierTensor("table", (2,), torch.float32, 0, True),)
    part.extract = lambda inputs: (inputs * 2, torch.tensor([1.0, 2.0]))
    fill(tmp_path, part)
    opened = fl.FeatureCache(tmp_path).location.opened(recipe_key(part), part.frontier)
    assert opened.shared()["table"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("part", [Part, MaskedPart])
def test_a_fill_of_what_is_known_writes_nothing(tmp_path, part):
    data = Masked(0, 30) if part is MaskedPart else None
    fill(tmp_path, part(), data)

    def times():
        files = (path for path in tmp_path.rglob("*") if path.is_file() and path.name != USE_LOCK)
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    fill(tmp_path, part(), data)
    assert times() == before


def test_entries_tell_what_is_stored_and_how_much(tmp_path):
    fill(tmp_path, MaskedPart(), Masked(0, 30))
    (entry,) = fl.FeatureCache(tmp_path).entries()
    assert (entry.rows, entry.tensors) == (30, ("low", "input.mask"))
    assert entry.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert entry.written_by.startswith("torch ")


ODD = {
    "a link": lambda path, kept: path.symlink_to(kept),
    "a link to nothing": lambda path, kept: path.symlink_to(kept.with_name("nothing")),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
    "a socket": lambda path, _: bind(path),
}


def bind(path):
    with socket.socket(socket.AF_UNIX) as own:
        os.chdir(path.parent)  # names of sockets are short
        own.bind(path.name)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("place", ["shards", "manifests"])
def test_what_is_no_file_of_ours_is_not_read_and_does_not_block(tmp_path, monkeypatch, kind, place):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "cache"
    folder = Path(fill(root).figures.path)
    (path,) = (folder / place).iterdir()
    path.rename(tmp_path / "kept")
    ODD[kind](path, tmp_path / "kept")
    assert fill(root).figures.computed == N
    assert fill(root).figures.computed == 0


@pytest.mark.parametrize("place", ["shards", "manifests"])
def test_a_file_of_a_terabyte_is_refused_before_anything_is_allocated(tmp_path, place):
    root = tmp_path / "cache"
    (path,) = (Path(fill(root).figures.path) / place).iterdir()
    os.truncate(path, 2**40)  # without blocks on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(fl.CacheError, match="Cannot read") as caught:
        fill(root)
    assert all(caught.value.parts().values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # kilobytes


@pytest.mark.parametrize("place", ["", "shards", "manifests"])
def test_a_folder_that_is_a_link_is_refused(tmp_path, place):
    root = tmp_path / "cache"
    own = Path(fill(root).figures.path) / place
    own.rename(tmp_path / "elsewhere")
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(fl.CacheError, match="is a link or a file") as caught:
        fill(root)
    assert all(caught.value.parts().values())
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir()
    assert fill(linked).figures.computed == N  # the cache itself may be one
