import os

import pytest
import torch
from safetensors.torch import load

import frostline as fl
from frostline.caching.store import shard_writer
from frostline.caching.store import shards as shard_files
from helpers_caching import D, N, Part, dataset, fill, shards


def test_every_changed_byte_of_a_shard_is_noticed_and_mended(tmp_path):
    fill(tmp_path)
    shard = max(shards(tmp_path), key=lambda p: p.stat().st_size)
    whole = shard.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 12)):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        problems = fl.FeatureCache(tmp_path).verify()
        assert "does not have the digest" in problems[0] or "a header" in problems[0]
    data = fill(tmp_path)
    assert "was set aside" in data.notes[0]
    assert data.figures.computed == N
    assert torch.equal(data[5][0][0], dataset()[5][0] * 2)
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_truncated_shards_and_links_are_refused(tmp_path):
    data = fill(tmp_path)
    shard = max(shards(tmp_path), key=lambda p: p.stat().st_size)
    whole = shard.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        shard.write_bytes(whole[:length])
        with pytest.raises(fl.CacheError, match="damaged or missing"):
            data._gatherer.shards.__class__(shard.parent).open(shard.name)
    shard.unlink()
    os.mkfifo(shard)
    assert fill(tmp_path).figures.computed == N


def test_a_shard_is_read_once_by_a_process_and_again_if_it_changed(tmp_path, monkeypatch):
    read, real = [], shard_files.tensors_of
    monkeypatch.setattr(shard_files, "tensors_of", lambda path, *rest: read.append(path.name) or real(path, *rest))
    cache = fl.FeatureCache(tmp_path)
    cache.fill(Part(), dataset(), progress=False)
    cache.fill(Part(), dataset(), progress=False)
    assert len(read) == len(set(read))
    data = max(shards(tmp_path), key=lambda path: path.stat().st_size)
    data.chmod(0o600)
    data.write_bytes(data.read_bytes()[:-1] + b"!")
    assert "set aside" in cache.fill(Part(), dataset(), progress=False).notes[0]


@pytest.mark.parametrize("frontier", [("low",), ("odd", "low"), ("low", "odd")])
def test_the_widest_rows_of_a_shard_start_on_a_page(tmp_path, frontier):
    wide = {"low": (64, torch.float32), "odd": (3, torch.uint8)}
    part = Part()
    part.frontier = tuple(fl.FrontierTensor(name, (wide[name][0],), wide[name][1], 3, False) for name in frontier)
    part.extract = lambda x: tuple(x.repeat(1, 64)[:, : wide[name][0]].to(wide[name][1]) for name in frontier)
    data = fill(tmp_path, part)
    (mapped,) = data._gatherer._mapped
    assert mapped["low"].data_ptr() % 4096 < 8
    (shard,) = shards(tmp_path)
    content = shard.read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0
    assert torch.equal(load(content)["low"], mapped["low"])


@pytest.mark.parametrize("follow", [True, False])
def test_a_mapped_shard_is_an_open_file_only_where_its_lock_needs_one(tmp_path, monkeypatch, follow):
    monkeypatch.setattr("frostline.caching.store.shards.locks_follow_maps", lambda folder: follow)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 8 * 4 * D)
    before = len(os.listdir("/proc/self/fd"))
    data = fill(tmp_path, batch_size=8)
    assert len(data._gatherer._mapped) == len(shards(tmp_path)) == 5
    assert len(os.listdir("/proc/self/fd")) - before == (0 if follow else 5)
