import json

import pytest
import torch

import frostline as fl
from frostline.caching.reading.loader import Resident, has_room
from frostline.caching.store import shard_writer
from helpers_caching import D, N, Part, dataset, fill


def test_loader_order_is_a_function_of_seed_and_epoch(tmp_path):
    data = fill(tmp_path)
    loader = data.loader(8, shuffle=True, seed=1)
    first, second = ([t.tolist() for _, t in loader] for _ in range(2))
    assert first != second
    again = data.loader(8, shuffle=True, seed=1)
    again.epoch = 1
    assert [t.tolist() for _, t in again] == second
    assert sorted(label for batch in first for label in batch) == sorted(int(t) for t in dataset().tensors[1])


def test_rows_are_held_on_a_gpu_only(tmp_path, monkeypatch):
    def held(*_):
        raise AssertionError("all rows were read into memory")

    monkeypatch.setattr("frostline.caching.reading.loader.Resident", held)
    assert sum(len(t) for _, t in fill(tmp_path).loader(8, device="cpu")) == N


def test_loader_resumes_in_the_middle_of_an_epoch(tmp_path):
    data = fill(tmp_path)
    whole = [f[0] for f, _ in data.loader(7, shuffle=True, seed=4)]
    loader = data.loader(7, shuffle=True, seed=4)
    assert loader.state_dict() == {"seed": 4, "epoch": 0, "batch": 0, "batch_size": 7}
    assert loader.epoch == 0
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
    state = json.loads(json.dumps(loader.state_dict()))
    assert state == {"seed": 4, "epoch": 0, "batch": 2, "batch_size": 7}
    resumed = data.loader(7, shuffle=True)
    resumed.load_state_dict(state)
    assert all(torch.equal(a[0], b) for (a, _), b in zip(resumed, whole[2:], strict=True))
    with pytest.raises(fl.DataError, match="another batch size"):
        data.loader(8).load_state_dict(state)


def test_a_pass_that_is_broken_off_loses_nothing(tmp_path):
    data = fill(tmp_path)
    loader = data.loader(8, shuffle=True)
    next(iter(loader))
    assert sorted(torch.cat([target for _, target in loader])) == sorted(dataset().tensors[1])
    assert len(list(zip(loader, loader, strict=True))) == len(loader)


def test_loader_lengths_and_last_batches(tmp_path):
    data = fill(tmp_path)
    assert [len(t) for _, t in data.loader(16)] == [16, 16, 8]
    assert [len(t) for _, t in data.loader(16, drop_last=True)] == [16, 16]
    assert (len(data.loader(16)), len(data.loader(16, drop_last=True))) == (3, 2)
    with pytest.raises(fl.DataError, match="batch_size is not a whole number of 1 or more"):
        data.loader(0)


def test_a_yielded_batch_is_never_overwritten(tmp_path):
    kept = [(f[0], f[0].clone()) for f, _ in fill(tmp_path).loader(8)]
    assert all(torch.equal(batch, copy) for batch, copy in kept)
    kept[0][0].zero_()  # whatever a loop does to its batch, the stored rows stay
    assert torch.equal(fill(tmp_path)[0][0][0], dataset()[0][0] * 2)


@pytest.mark.parametrize("state", [None, {}, {"seed": 1, "epoch": 0, "batch": 0}, [1, 2, 3, 4]])
def test_what_is_no_state_is_refused(tmp_path, state):
    loader = fill(tmp_path).loader(8)
    with pytest.raises(fl.DataError, match="This is not the state of a loader"):
        loader.load_state_dict(state)
    for name, wrong in (("epoch", -1), ("batch", None), ("seed", 2**80)):
        with pytest.raises(fl.DataError, match=f"{name} "):
            loader.load_state_dict({**loader.state_dict(), name: wrong})


def test_an_epoch_is_a_whole_number(tmp_path):
    loader = fill(tmp_path).loader(8, shuffle=True)
    for wrong in (-1, None, 0.5, "1"):
        with pytest.raises(fl.DataError, match="epoch is not a whole number of 0 or more"):
            loader.epoch = wrong
    loader.epoch = 3
    assert loader.epoch == 3


def test_more_batches_than_are_fetched_ahead_and_targets_of_any_form(tmp_path):
    inputs, labels = dataset(150).tensors
    data = fill(tmp_path, data=[(x, {"class": int(t), "place": (at, float(at))})
                                for at, (x, t) in enumerate(zip(inputs, labels, strict=True))])  # fmt: skip
    found = list(data.loader(1, shuffle=True, seed=3))
    assert len(found) == 150
    for features, target in found:
        at = int(target["place"][0])
        assert torch.equal(features[0][0], inputs[at] * 2)
        assert target["class"].tolist() == [at % 4]
        assert target["place"][1].tolist() == [float(at)]
    assert [len(target["class"]) for _, target in data.loader(2)] == [2] * 75


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_state_behind_the_last_batch_is_the_next_epoch(tmp_path, size):
    loader = fill(tmp_path).loader(size)
    for at, _ in enumerate(loader, 1):
        state = loader.state_dict()
        assert (state["epoch"], state["batch"]) == ((0, at) if at < len(loader) else (1, 0))
    loader.epoch = 5
    assert loader.state_dict() == {"seed": 0, "epoch": 5, "batch": 0, "batch_size": size}


def test_batches_go_to_the_device_that_is_asked_for(tmp_path):
    ((features, target), *_) = fill(tmp_path).loader(8, device="meta")
    assert (features[0].device.type, target.device.type) == ("meta", "meta")
    with pytest.raises(fl.DataError, match="seed"):
        fill(tmp_path).loader(8, seed=0.5)
    for name in ("shuffle", "drop_last"):
        with pytest.raises(fl.DataError, match=f"{name} is neither True nor False"):
            fill(tmp_path).loader(8, **{name: 1})


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


def test_processes_with_more_and_with_less_memory_read_one_order(tmp_path, monkeypatch):
    data, offers = fill(tmp_path), []
    # the third has room for all rows on its GPU, the others have not
    loaders = [data.loader(8, shuffle=True, memory_bytes=given) for given in (None, 8 * 4 * D * 4, None)]
    monkeypatch.setattr("frostline.caching.reading.loader.has_room", lambda *_: len(offers) == 2)
    for rank, loader in enumerate(loaders):
        loader._device, loader.part = torch.device("cpu"), (rank % 2, 2)
        loader.agree(lambda own: offers.append(own) or [own])
    for loader in loaders:
        loader.agree(lambda _: offers)
    first, second, third = ([row for (low,), _ in loader for row in low.tolist()] for loader in loaders)
    assert first == third
    assert sorted(first + second) == sorted((dataset().tensors[0] * 2).tolist())
