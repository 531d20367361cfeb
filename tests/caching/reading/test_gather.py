import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import frostline as fl
from frostline.caching.reading import gather, loader
from frostline.caching.store import shard_writer
from frostline.core import disk_array
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
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 8 * 4 * D)
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
        monkeypatch.setattr(shard_writer, "SHARD_BYTES", size * 4 * D)
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


ROWS = {
    "bytes": (3, torch.uint8), "truths": (7, torch.bool), "halves": (5, torch.bfloat16), "one half": (1, torch.float16),
    "floats": (3, torch.float32), "doubles": (2, torch.float64), "pairs": (3, torch.complex64), "none": (0, torch.int8),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_any_width_and_dtype_are_gathered_from_several_shards(tmp_path, monkeypatch, name):
    width, dtype = ROWS[name]
    part = Part()
    part.frontier = (fl.FrontierTensor("low", (width,), dtype, width * dtype.itemsize, False),)
    part.extract = lambda x: ((x.repeat(1, 2)[:, :width] * 3).to(dtype),)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", max(1, 8 * width * dtype.itemsize))
    data = fill(tmp_path, part, batch_size=5)
    expected = part.extract(dataset().tensors[0])[0]
    assert torch.equal(torch.cat([features[0] for features, _ in data.loader(9)]), expected)
    assert torch.equal(data[17][0][0], expected[17])


def test_an_input_that_all_samples_share_reaches_every_batch(tmp_path):
    model = nn.ModuleDict({"low": nn.Linear(D, D), "high": nn.Linear(D, D)})
    model.forward = lambda x, y: model["high"](model["low"](x)) * y
    fl.freeze(model, modules=[model["low"]])
    part = fl.split(model, {"x": torch.randn(4, D), "y": torch.randn(4, D)})
    data = fill(tmp_path, part, [({"x": x, "y": x + 1}, label) for x, label in dataset()])
    for features, _ in data.loader(7):
        features[-1].zero_()  # what a loop does to its batch stays in the batch
    passed = torch.cat([features[-1] for features, _ in data.loader(7)])
    assert torch.equal(passed, dataset().tensors[0] + 1)


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_any_width_and_dtype_are_gathered_from_one_shard(tmp_path, name):
    width, dtype = ROWS[name]
    part = Part()
    part.frontier = (fl.FrontierTensor("low", (width,), dtype, width * dtype.itemsize, False),)
    part.extract = lambda x: ((x.repeat(1, 2)[:, :width] * 3).to(dtype),)
    data = fill(tmp_path, part)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0)).tolist()
    expected = part.extract(dataset().tensors[0])[0]
    assert all(torch.equal(data[at][0][0], expected[at]) for at in order)


@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_rows_of_a_few_words_come_from_where_they_lie(tmp_path, width):
    part = Part()
    part.frontier = (fl.FrontierTensor("low", (width,), torch.float64, 8 * width, False),)
    part.extract = lambda x: (x[:, :width].double(),)
    ((features, _),) = fill(tmp_path, part).loader(N)
    assert torch.equal(features[0], dataset().tensors[0][:, :width].double())


def test_a_wrong_row_in_a_later_shard_is_named_with_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 8 * 4 * D)
    data = fill(tmp_path, batch_size=8)
    last = int(data._gatherer.shard[39])
    data._gatherer.row[39] = (data._gatherer.row[39] + 1) % 8
    with pytest.raises(fl.CacheError, match="belongs to another sample") as error:
        data[39]
    assert error.value.where == f"{data._gatherer.names[last]}, row {int(data._gatherer.row[39])}"
    assert data[38][1] == 38 % 4


def test_rows_that_do_not_begin_on_a_multiple_of_their_values_and_wide_ones_are_gathered(tmp_path, monkeypatch):
    rows = {"odd": (3, torch.uint8), "low": (5, torch.float32), "wide": (2**15 + 3, torch.uint8)}
    part = Part()
    part.frontier = tuple(fl.FrontierTensor(k, (w,), d, w * d.itemsize, False) for k, (w, d) in rows.items())
    part.extract = lambda x: tuple((x.abs().repeat(1, w)[:, :w] * 9).to(d) for w, d in rows.values())
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 3 * 2**15)
    data = fill(tmp_path, part, batch_size=3)
    assert len(shards(tmp_path)) > 5
    low = data._gatherer._span("low")
    assert any(tensor.data_ptr() % 4 for tensor in low._mapped)
    found = [torch.cat(own) for own in zip(*(features for features, _ in data.loader(7)), strict=True)]
    assert all(map(torch.equal, found, part.extract(dataset().tensors[0])))


def test_a_batch_is_one_operation_whatever_the_number_of_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 8 * 4 * D)
    gatherer = fill(tmp_path, batch_size=8)._gatherer
    span = gatherer._span("low")
    starts = span.starts(gatherer.shard.long(), gatherer.row.long())
    with Operations() as operations:
        span.gather(starts)
    assert operations.names == ["aten.index_select.default"]


def test_many_samples_are_gathered_as_few_are(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 8 * 4 * D)
    few = fill(tmp_path, batch_size=8)
    expected = [[own[0] for own, _ in few.loader(9, shuffle=True, seed=2)] for _ in range(2)]
    for module in (gather, loader):
        monkeypatch.setattr(module, "FEW", 3)
    monkeypatch.setattr(disk_array, "_LEAST_BYTES", 16)
    many = fill(tmp_path, batch_size=8)
    found = [[own[0] for own, _ in many.loader(9, shuffle=True, seed=2)] for _ in range(2)]
    assert all(
        torch.equal(one, other) for a, b in zip(expected, found, strict=True) for one, other in zip(a, b, strict=True)
    )
    assert all(torch.equal(*own) for both in zip(expected, found, strict=True) for own in zip(*both, strict=True))
    assert (few._gatherer._starts_N != {}, many._gatherer._starts_N) == (True, {})
    assert torch.equal(many.part(range(5, 20)).targets, few.targets[5:20])
    many._gatherer.row[3] = 4
    with pytest.raises(fl.CacheError, match="belongs to another sample"):
        list(many.loader(9))
