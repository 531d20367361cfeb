import pytest
import torch

import frostline as fl
from frostline.caching import writing
from helpers_caching import D, N, Part, dataset, fill, shards


def test_writing_into_a_shared_tensor_changes_one_batch_only(tmp_path):
    part = Part()
    part.frontier += (fl.FrontierTensor("table", (2,), torch.float32, 0, True),)
    part.extract = lambda x: (x * 2, torch.tensor([1.0, 2.0]))
    data = fill(tmp_path, part)
    for features, _ in data.loader(7):
        assert features[1].tolist() == [1.0, 2.0]
        features[1].zero_()
    data[0][0][1].zero_()
    assert data[1][0][1].tolist() == [1.0, 2.0]


def test_several_shards_are_gathered_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_BYTES", 8 * 4 * D)
    data = fill(tmp_path, batch_size=4)
    assert len(shards(tmp_path)) >= 5
    rows = torch.cat([features[0] for features, _ in data.loader(9)])
    assert torch.equal(rows, dataset().tensors[0] * 2)
    with pytest.raises(IndexError, match="sample 40 of 40"):
        data[N]


def test_rows_of_other_samples_are_refused(tmp_path):
    data = fill(tmp_path)
    data._gatherer.row[3] = 4
    with pytest.raises(fl.CacheError, match="belongs to another sample") as error:
        list(data.loader(8))
    assert "sample 3" in error.value.received
