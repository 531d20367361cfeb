import copy
import errno
import os
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core import inputs, io, restore
from frostline.core.errors import nearest
from frostline.core.order import epoch_order


def error(**changed):
    return fl.DataError(**{"what": "W.", "where": "here", "received": "that", "do": "this.", **changed})


def test_an_error_has_four_parts_and_survives_a_process_border():
    assert str(error()) == "W.\nWhere:    here\nReceived: that\nDo:       this."
    again = pickle.loads(pickle.dumps(error()))
    assert (type(again), again.parts()) == (fl.DataError, error().parts())
    with pytest.raises(TypeError):
        fl.DataError(what="W.", where="here", received="that")


def test_nearest_names():
    assert nearest("layr3", ["layer3", "fc"]) == "'layer3'"
    assert nearest("zzz", ["a", "b"]) == "'a', 'b'"


def test_inputs_are_called_as_they_are():
    def model(*args, **kwargs):
        return args, kwargs

    assert inputs.call(model, 3) == ((3,), {})
    assert inputs.call(model, (1, 2)) == ((1, 2), {})
    assert inputs.call(model, {"a": 1}) == ((), {"a": 1})


def test_rows_leave_unbatched_tensors_alone():
    batch = {"a": torch.arange(6).view(3, 2), "table": torch.ones(5)}
    part = inputs.rows(batch, slice(0, 2))
    assert part["a"].shape == (2, 2)
    assert part["table"].shape == (5,)


def test_labels_are_targets_unless_forward_needs_them():
    item = {"x": 1, "labels": 2}
    assert inputs.unpack(item, 0) == ({"x": 1}, 2)
    assert inputs.unpack(item, 0, frozenset({"labels"})) == (item, 2)
    assert inputs.required_labels(lambda x, labels: 0) == {"labels"}
    assert inputs.required_labels(lambda x, labels=None: 0) == frozenset()
    with pytest.raises(fl.DataError, match="must be \\(inputs, target\\)") as caught:
        inputs.unpack({"x": 1}, 5)
    assert caught.value.where == "dataset[5]"


def test_floats_become_float32_targets():
    assert inputs.collate_targets([0.5, 1.0], [0, 1]).dtype == torch.float32
    assert inputs.collate_targets([torch.tensor(1), 2], [0, 1]).tolist() == [1, 2]


def test_order_is_a_permutation_that_seed_and_epoch_choose():
    orders = [epoch_order(50, shuffle=True, seed=s, epoch=e).tolist() for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2]


def test_what_is_kept_is_put_back_on_errors_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].weight.grad = torch.ones(2, 2)
    gradient, state = model[0].weight.grad, copy.deepcopy(model.state_dict())
    torch.manual_seed(4)
    expected = (torch.rand(2), np.random.rand(), random.random())
    torch.manual_seed(4)
    np.random.seed(0)
    random.seed(0)
    expected = (torch.rand(2), np.random.rand(), random.random())
    torch.manual_seed(4)
    np.random.seed(0)
    random.seed(0)
    with pytest.raises(ZeroDivisionError), restore.kept_generators(), restore.kept_modes(model), \
            restore.kept_gradients(model), restore.kept_buffers(model), restore.kept_parameters(model):  # fmt: skip
        model.eval()
        torch.rand(3), np.random.rand(), random.random()
        model[0].weight.data += 1
        model[1].running_mean = torch.ones(2)
        assert model[0].weight.grad is None
        raise ZeroDivisionError
    assert model[0].training
    assert model[0].weight.grad is gradient
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.rand(2), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    io.write_json(path, {"a": 1})

    def torn():
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        io.write_atomic(path, torn())
    assert io.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert not io.publish_new(path, [b"x"])
    assert io.publish_new(tmp_path / "b", [b"x"])


def test_disks_without_hard_links_publish_too(tmp_path, monkeypatch):
    def refuse(*_):  # such a disk cannot be mounted here
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert io.publish_new(tmp_path / "a", [b"first"])
    assert not io.publish_new(tmp_path / "a", [b"second"])
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_leftovers_of_the_dead_are_swept(tmp_path):
    (tmp_path / "x.999999999-abc.part").write_text("")
    (tmp_path / "kept.json").write_text("")
    assert io.sweep(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "nothing", "[" * 100_000])
def test_json_that_is_not_ours_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(fl.CacheError, match="not the JSON that Frostline wrote"):
        io.read_json(tmp_path / "a.json")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(fl.CacheError, match="Cannot read missing.json"):
        io.read_json(tmp_path / "missing.json")
    (tmp_path / "large.json").write_text("1" * 100)
    with pytest.raises(fl.CacheError, match="Cannot read large.json"):
        io.read_json(tmp_path / "large.json", max_bytes=10)
