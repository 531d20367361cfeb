import torch

import frostline as fl
from frostline.caching import writing
from helpers_caching import D, fill, shards


def test_a_slow_fill_publishes_often_and_leaves_one_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_SHARD_SECONDS", 0.0)
    published, real = [], writing.with_shard
    monkeypatch.setattr(writing, "with_shard", lambda m, name, rows: published.append(name) or real(m, name, rows))
    data = fill(tmp_path, batch_size=8)
    assert len(set(published)) > 2
    assert len(data._gatherer.names) == 1
    assert not {path.name for path in shards(tmp_path)} & set(published)
    plain = fill(tmp_path / "plain", batch_size=8)
    assert all(torch.equal(a[0][0], b[0][0]) for a, b in zip(data, plain, strict=True))


def test_shards_are_merged_up_to_the_size_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_SHARD_SECONDS", 0.0)
    monkeypatch.setattr(writing, "SHARD_BYTES", 3 * 8 * 4 * D)
    data = fill(tmp_path, batch_size=8)
    assert len(data._gatherer.names) == -(-len(data) // 24)
    assert fl.FeatureCache(tmp_path).verify() == ()
