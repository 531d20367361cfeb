import torch

import frostline as fl
from frostline.caching import shard_writer
from frostline.caching.resident import Resident, has_room
from helpers_caching import D, N, Part, fill


def test_rows_are_those_of_the_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 8 * 4 * D)
    part = Part()
    part.frontier += (fl.FrontierTensor("table", (2,), torch.float32, 0, True),)
    part.extract = lambda x: (x * 2, torch.tensor([1.0, 2.0]))
    gatherer = fill(tmp_path, part)._gatherer
    samples, resident = torch.randperm(N), Resident(gatherer, torch.device("cpu"))
    for ours, theirs in zip(resident.batches(samples, 7), gatherer.batches(samples, 7), strict=True):
        assert all(map(torch.equal, ours, theirs))
        ours[0].zero_()
        ours[1].zero_()
    assert all(map(torch.equal, next(resident.batches(samples, N)), gatherer.features(samples)))


def test_on_a_processor_the_mapped_shards_are_read(tmp_path):
    assert not has_room(fill(tmp_path)._gatherer, torch.device("cpu"))
