import os

import pytest
import torch

import frostline as fl
from frostline.caching import shards as shard_files
from helpers_caching import N, Part, dataset, fill, shards


def test_every_changed_byte_of_a_shard_is_noticed_and_mended(tmp_path):
    fill(tmp_path)
    shard = max(shards(tmp_path), key=lambda p: p.stat().st_size)
    whole = shard.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 12)):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        problems = fl.FeatureCache(tmp_path).verify()
        assert "does not have the digest" in problems[0]
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
    read, real = [], shard_files._tensors
    monkeypatch.setattr(shard_files, "_tensors", lambda path, *rest: read.append(path.name) or real(path, *rest))
    cache = fl.FeatureCache(tmp_path)
    cache.fill(Part(), dataset(), progress=False)
    cache.fill(Part(), dataset(), progress=False)
    assert len(read) == len(set(read))
    data = max(shards(tmp_path), key=lambda path: path.stat().st_size)
    data.chmod(0o600)
    data.write_bytes(data.read_bytes()[:-1] + b"!")
    assert "set aside" in cache.fill(Part(), dataset(), progress=False).notes[0]
