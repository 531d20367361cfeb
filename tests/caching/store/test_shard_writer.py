import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.fill import missing_rows
from frostline.caching.store import shard_writer
from frostline.caching.store.manifest import read_contents, read_newest
from frostline.caching.store.opening import Opened
from frostline.core import locks
from helpers_caching import D, N, Part, dataset, fill, shards


def live(root):
    """What counts of the one recipe in this cache."""
    (folder,) = root.glob("*/manifests")
    return read_newest(folder)[1]


def test_a_slow_fill_publishes_often_and_leaves_one_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    data = fill(tmp_path, batch_size=8)
    assert len(read_contents(next(tmp_path.glob("*/manifests"))).listed) == N // 8 + 1
    assert len(data._gatherer.names) == 1
    plain = fill(tmp_path / "plain", batch_size=8)
    assert all(torch.equal(a[0][0], b[0][0]) for a, b in zip(data, plain, strict=True))


def test_shards_are_merged_up_to_the_size_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 3 * 8 * 4 * D)
    data = fill(tmp_path, batch_size=8)
    assert len(data._gatherer.names) == -(-len(data) // 24)
    assert fl.FeatureCache(tmp_path).verify() == ()


def part_of(start, stop):
    inputs, targets = dataset(60).tensors
    return TensorDataset(inputs[start:stop], targets[start:stop])


class Meanwhile(Part):
    """A part that lets another fill run while it computes its first batch."""

    def __init__(self, root, other):
        super().__init__()
        self.root, self.other = root, other

    def extract(self, inputs):
        if self.other is not None:
            other, self.other = self.other, None
            fill(self.root, data=other, batch_size=4)
        return super().extract(inputs)


@pytest.fixture
def _no_claims(monkeypatch):
    """As on a disk where nothing can be claimed."""
    monkeypatch.setattr(missing_rows, "claims_of", lambda opened: None)


@pytest.mark.usefixtures("_no_claims")
def test_rows_that_two_fills_computed_are_stored_once_after_the_merge(tmp_path):
    data = fill(tmp_path, Meanwhile(tmp_path, part_of(10, 60)), part_of(0, 40), batch_size=8)
    assert data.figures.computed == 40
    assert sum(live(tmp_path).rows) == 60
    assert fill(tmp_path, data=dataset(60)).figures.computed == 0


@pytest.mark.usefixtures("_no_claims")
def test_a_shard_whose_rows_are_all_elsewhere_goes_without_a_new_one(tmp_path):
    fill(tmp_path, Meanwhile(tmp_path, part_of(0, 60)), part_of(10, 20), batch_size=8)
    assert live(tmp_path).rows == (60,)


def test_a_merge_deletes_nothing_that_another_fill_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 0)
    first = fill(tmp_path, data=part_of(0, 30))
    names = first._gatherer.names
    fill(tmp_path, data=part_of(30, 60), batch_size=4)
    assert not set(names) & set(live(tmp_path).shards)
    assert set(names) <= {path.name for path in shards(tmp_path)}  # replaced, and read by `first`
    assert torch.equal(torch.cat([f[0] for f, _ in first.loader(7)]), part_of(0, 30).tensors[0] * 2)
    del first
    fill(tmp_path, Part(), part_of(0, 60))


def test_many_small_shards_of_other_fills_become_few(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 4)
    for at in range(12):
        fill(tmp_path, data=part_of(5 * at, 5 * at + 5))
    assert len(live(tmp_path).shards) <= 5
    assert fill(tmp_path, data=dataset(60)).figures.computed == 0


def test_a_merge_names_for_each_old_shard_the_new_ones_that_hold_its_rows_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 3 * 8 * 4 * D)
    monkeypatch.setattr(Opened, "collect", lambda _: None)  # the records are there while the old shards are
    data = fill(tmp_path, batch_size=8)
    manifest = live(tmp_path)
    assert len(manifest.replaced) == N // 8
    held = {name: set(map(bytes, load_file(path)["sample_keys"].numpy())) for path in shards(tmp_path)
            for name in [path.name]}  # fmt: skip
    for old, by in manifest.replaced:
        assert len(by) == 1  # all of them together would be as many names as old shards times new ones
        assert held[old] <= held[by[0]]
    assert len(data._gatherer.names) == 2


def test_a_merge_that_another_one_holds_up_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    monkeypatch.setattr(shard_writer, "_WAIT_S", 0.0)
    fill(tmp_path)
    (folder,) = tmp_path.glob("*")
    with locks.held(folder / shard_writer.MERGE_LOCK, wait_s=0):
        data = fill(tmp_path, data=dataset(60), batch_size=4)
    assert len(data._gatherer.names) > 3
    assert (data.figures.samples, data.figures.computed) == (60, 20)


def test_shards_that_are_full_are_not_written_again(tmp_path, monkeypatch):
    """How large a shard is, is how large its rows are: their keys are next to nothing."""
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 8 * 4 * 1000)
    part = Part()
    part.frontier = (fl.FrontierTensor("low", (1000,), torch.float32, 4000, False),)
    part.extract = lambda x: (x[:, :1].repeat(1, 1000),)
    data = fill(tmp_path, part, batch_size=8)
    assert live(tmp_path).rows == (8,) * 5
    assert len(data) == N


def test_a_full_disk_at_the_merge_costs_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    real = shard_writer._rewritten

    def full(opened, *rest):
        monkeypatch.setattr(
            opened.shards,
            "write",
            lambda *_: (_ for _ in ()).throw(
                fl.CacheError(
                    what="Cannot write a shard.", where="the disk", received="No space left on device", do="free space."
                )
            ),
        )
        return real(opened, *rest)  # fmt: skip

    monkeypatch.setattr(shard_writer, "_rewritten", full)
    data = fill(tmp_path, batch_size=8)
    assert "not merged" in data.notes[0]
    assert torch.equal(torch.cat([f[0] for f, _ in data.loader(7)]), dataset().tensors[0] * 2)
