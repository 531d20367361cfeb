import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.errors import PortError
from frostline.porting.readers import paddle_inference
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, number

FILES = Path(__file__).parents[1] / "files" / "paddle"


def read(path):
    with WeightFile(path) as file:
        assert paddle_inference.claims(file)
        source = paddle_inference.read(file)
        return {one.name: one.load() for one in source.tensors}, source


@pytest.mark.parametrize("name", ["inference", "older"])
def test_names_stand_in_the_program(name):
    found, source = read(FILES / f"{name}.pdiparams")
    expected = np.load(FILES / "inference.npz")
    assert found.keys() == set(expected)
    assert all(np.array_equal(found[one].numpy(), expected[one]) for one in expected)
    assert (source.framework, source.order) == ("paddle", "graph")
    assert next(iter(found)) == "conv2d_0.w_0"


def test_units_are_the_modules_where_they_are_stated():
    places = {one.name: (one.unit, one.leaf) for one in read(FILES / "older.pdiparams")[1].tensors}
    assert places["batch_norm2d_0.w_2"] == ("body/1", "_variance")
    places = {one.name: (one.unit, one.leaf) for one in read(FILES / "inference.pdiparams")[1].tensors}
    assert places["batch_norm2d_0.w_2"] == ("batch_norm2d_0", "_variance")
    assert places["linear_0.w_0"] == ("linear_0", "weight")


def test_without_a_program_tensors_have_no_names(tmp_path):
    shutil.copy(FILES / "inference.pdiparams", tmp_path)
    found, source = read(tmp_path / "inference.pdiparams")
    assert next(iter(found)) == "tensor_0"
    assert len(found) == 9
    assert source.order == "file"
    assert "no names" in source.notes[0]
    shutil.copy(FILES / "inference.pdiparams", tmp_path / "__params__")
    shutil.copy(FILES / "older.pdmodel", tmp_path / "__model__")
    assert "conv2d_0.w_0" in read(tmp_path / "__params__")[0]


def refused(path, received=""):
    with pytest.raises(PortError, match="damaged") as caught:
        read(path)
    assert received in caught.value.received


def tensor(dims, raw, kind=5, lod=0):
    described = b"\x08" + bytes([kind]) + b"".join(b"\x10" + dim for dim in dims)
    return struct.pack("<IQIi", 0, lod, 0, len(described)) + described + raw


@pytest.mark.parametrize(
    "raw",
    [tensor([b"\4"], bytes(15)), tensor([b"\4"], bytes(17)), tensor([b"\4"], bytes(16)) + b"\0" * 30,
     tensor([b"\xff" * 9 + b"\1"], b""), tensor([b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"] * 3, bytes(16)),
     tensor([b"\4"], bytes(16), kind=99), tensor([b"\4"], bytes(16), lod=1), tensor([b"\1"] * 65, bytes(4)),
     tensor([b"\4"], bytes(16))[:-17], struct.pack("<IQIi", 0, 0, 0, 90) + b"\x08\x05"],
)  # fmt: skip
def test_tensors_that_the_file_does_not_hold(tmp_path, raw):
    (tmp_path / "a.pdiparams").write_bytes(raw)
    refused(tmp_path / "a.pdiparams")


def test_a_program_of_another_network(tmp_path):
    path = tmp_path / "a.pdiparams"
    path.write_bytes(tensor([b"\4"], bytes(16)))
    shutil.copy(FILES / "older.pdmodel", tmp_path / "a.pdmodel")
    refused(path, "the 9 tensors in the program")
    (tmp_path / "a.pdmodel").write_bytes(b"")
    refused(path, "without a block")
    (tmp_path / "a.pdmodel").unlink()
    for whole in ({}, {"program": {"regions": [{"blocks": [{"ops": [{"#": "p", "A": [0], "O": {}}]}]}]}}):
        (tmp_path / "a.json").write_text(json.dumps(whole))
        refused(path, "not a PaddlePaddle program")


def test_names_of_modules_that_are_no_names_are_passed_over(tmp_path):
    for name in ("older.pdiparams", "older.pdmodel"):
        shutil.copy(FILES / name, tmp_path)
    for stated in (1, {"conv2d_0.w_0": 1}, {"a": {"structured_name": "x"}, "b": {"structured_name": "x"}}):
        (tmp_path / "older.pdiparams.info").write_bytes(pickle.dumps(stated))
        assert read(tmp_path / "older.pdiparams")[1].notes == ()


def test_other_files_are_not_claimed(tmp_path):
    for content in (b"", bytes(60), b"\x80\x02}.", tensor([b"\4"], b"")[:20]):
        (tmp_path / "a").write_bytes(content)
        with WeightFile(tmp_path / "a") as file:
            assert not paddle_inference.claims(file)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(3, 2, num_layers=2, batch_first=True)
        self.second = nn.GRU(2, 2, bidirectional=True, batch_first=True)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.second(self.first(x)[0])[0])


def test_recurrent_layers_are_put_together_from_their_cells():
    found, source = read(FILES / "recurrent.pdiparams")
    expected = np.load(FILES / "recurrent.npz")
    known = {"lstm_0": "lstm", "gru_0": "gru", "linear_0": "head"}
    assert {one.unit for one in source.tensors} == set(known)
    for one in source.tensors:
        assert np.array_equal(found[one.name].numpy(), expected[f"{known[one.unit]}.{one.leaf}"])
    model = Recurrent()
    golden = (torch.from_numpy(expected["x"]), torch.from_numpy(expected["y"]))
    assert fl.port(FILES / "recurrent.pdiparams", model, golden=golden).runs
    torch.testing.assert_close(model(golden[0]), golden[1])


def test_recurrent_layers_of_older_programs(tmp_path):
    names = [
        f"lstm_cell_{cell}.{leaf}" for leaf in ("w", "b") for cell in (0, 1) for leaf in (f"{leaf}_0", f"{leaf}_1")
    ]
    described = block(1, number(1, 7) + block(3, block(1, number(1, 5) + number(2, 2))))
    state = "lstm_0.dropout_state__non_persistable"
    variables = b"".join(block(3, block(1, name) + block(2, described[2:]) + number(3, 1)) for name in [*names, state])
    rnn = (
        block(1, block(1, "WeightList") + b"".join(block(2, name) for name in names))
        + block(2, block(1, "DropoutState") + block(2, state)) + block(3, "rnn")
        + block(4, block(1, "is_bidirec") + number(2, 6) + number(10, 1))
    )  # fmt: skip
    (tmp_path / "a.pdmodel").write_bytes(block(1, variables + block(4, rnn)))
    head = struct.pack("<IQIi", 0, 0, 0, 4) + number(1, 5) + number(2, 2)
    (tmp_path / "a.pdiparams").write_bytes((head + bytes(8)) * 8)
    _, source = read(tmp_path / "a.pdiparams")
    assert {one.unit for one in source.tensors} == {"lstm_0"}
    assert [one.leaf for one in source.tensors][:4] == [
        "weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse"
    ]  # fmt: skip
