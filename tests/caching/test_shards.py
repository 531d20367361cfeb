import copy
import os

import pytest
import torch
from safetensors.torch import load

import frostline as fl
from frostline.caching import opening, shard_writer
from frostline.caching import shards as shard_files
from frostline.caching.gather import Gatherer
from frostline.caching.shards import Shard
from frostline.caching.storage import Storage
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


@pytest.fixture
def lazy(monkeypatch):
    """Caches of any size are checked shard by shard, as those of many gigabytes are."""
    monkeypatch.setattr(opening, "_CHECKED_AT_ONCE", -1)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 10 * 4 * D)  # four shards of ten rows
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 99)


def spoil(path):
    """Change one bit of the last row."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])


def checked(monkeypatch):
    """Names of the shards whose content is compared from now on."""
    real, names = Shard._digest, []
    monkeypatch.setattr(Shard, "_digest", lambda shard: names.append(shard.path.name) or real(shard))
    return names


def test_a_shard_is_checked_on_its_first_use_and_once(tmp_path, monkeypatch, lazy):
    assert len(shards(tmp_path)) == 0
    fill(tmp_path, batch_size=10)
    assert len(shards(tmp_path)) == 4
    names = checked(monkeypatch)
    opened = fl.FeatureCache(tmp_path)._opened(Storage("exact", Part()))
    assert len(opened.rows().keys) == N
    assert names == []  # the size of a cache is not the cost of opening it
    rows = opened.rows()
    gatherer = Gatherer(rows, rows.keys, Part().frontier, {}, {})
    gatherer.features(torch.tensor([3, 7]))
    assert names == [rows.names[0]]
    gatherer.features(torch.arange(N))
    gatherer.features(torch.arange(N))
    assert sorted(names) == sorted(rows.names)


def test_damage_that_a_fill_meets_is_mended_by_it(tmp_path, lazy):
    fill(tmp_path, batch_size=10)
    for path in shards(tmp_path):
        spoil(path)
    data = fill(tmp_path)
    assert data.figures.computed == N
    assert all(torch.equal(data[at][0][0], dataset()[at][0] * 2) for at in range(N))
    assert len(list(tmp_path.glob("*/set-aside/*"))) == 4
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_damage_that_a_loader_meets_is_an_error_and_the_next_fill_mends_it(tmp_path, lazy):
    data = fill(tmp_path, batch_size=10)
    again = fl.FeatureCache(tmp_path)
    data = again.fill(Part(), dataset(), progress=False)
    for path in shards(tmp_path):
        spoil(path)
    other = copy.deepcopy(data)  # as a worker process opens it: nothing is known there
    with pytest.raises(fl.CacheError, match="damaged") as caught:
        list(other.loader(8))
    assert "set aside" in caught.value.received
    data = again.fill(Part(), dataset(), progress=False)
    assert data.figures.computed > 0
    assert all(torch.equal(own[0], dataset()[at][0] * 2) for at, (own, _) in enumerate(data))


def test_a_merge_does_not_carry_damage_into_a_new_shard(tmp_path, lazy, monkeypatch):
    fill(tmp_path, batch_size=10)
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 0)  # all are merged
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 2**20)
    spoil(shards(tmp_path)[1])
    bigger = fill(tmp_path, data=dataset(N + 5))
    assert all(torch.equal(bigger[at][0][0], dataset(N + 5)[at][0] * 2) for at in range(N + 5))
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_a_shard_that_others_deleted_is_checked_as_it_is_mapped(tmp_path, lazy):
    fill(tmp_path, batch_size=10)
    opened = fl.FeatureCache(tmp_path)._opened(Storage("exact", Part()))
    for path in shards(tmp_path):
        path.unlink()
    assert all(shard.is_whole() for shard in opened.held.values())
