import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


class Operations(TorchDispatchMode):
    """Names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **kwargs or {})


def test_a_pass_runs_the_same_operations_whatever_the_number_of_shards(tmp_path, monkeypatch):
    seen = {}
    for size in (1000, 8, 1):
        monkeypatch.setattr(writing, "SHARD_BYTES", size * 4 * D)
        data = fill(tmp_path / str(size), batch_size=size)
        loader = data.loader(7, shuffle=True)
        list(loader)
        with Operations() as operations:
            list(loader)
        seen[len(shards(tmp_path / str(size)))] = operations.names
    assert sorted(seen) == [1, 5, N]
    assert seen[1] == seen[5] == seen[N]
    assert "aten.index_select.default" in seen[1]


def test_a_default_device_of_the_caller_moves_nothing(tmp_path):
    data = fill(tmp_path)
    with torch.device("meta"):
        found = torch.cat([features[0] for features, _ in data.loader(9)])
        assert data[3][0][0].device.type == "cpu"
    assert torch.equal(found, dataset().tensors[0] * 2)
