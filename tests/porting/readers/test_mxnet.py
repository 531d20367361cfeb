import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from frostline.core.errors import PortError
from frostline.porting.readers import mxnet
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "mxnet"


def read(path):
    with WeightFile(path) as file:
        assert mxnet.claims(file)
        source = mxnet.read(file)
        return {one.name: one.load() for one in source.tensors}, source


def test_symbols_state_the_graph():
    found, source = read(FILES / "net-0003.params")
    expected = np.load(FILES / "net.npz")
    assert found.keys() == set(expected) - {"inputs", "outputs"}
    for name, tensor in found.items():
        assert np.array_equal(tensor.numpy(), expected[name]) == (name != "stage1_bn0_gamma")
    assert (source.framework, source.order) == ("mxnet", "graph")
    assert [(one.unit, one.leaf) for one in source.tensors][:2] == [("stage1_conv0", "weight"), ("stage1_bn0", "gamma")]
    assert [(one.name, one.kind, one.inputs) for one in source.layers][1:3] == [
        ("stage1_conv0", "Convolution", ("data",)), ("stage1_bn0", "BatchNorm", ("stage1_conv0",))
    ]  # fmt: skip
    assert source.layers[1].config["kernel"] == "(3, 3)"


def test_gamma_is_one_where_the_symbols_fix_it():
    found, source = read(FILES / "net-0003.params")
    stated = np.load(FILES / "net.npz")
    assert source.notes == ("1 BatchNorm layers have fix_gamma: their gamma is 1; stored values were not used.",)
    out = F.conv2d(torch.from_numpy(stated["inputs"]), found["stage1_conv0_weight"])
    for name, eps in (("stage1_bn0", 1e-3), ("stage1_bn1", 2e-5)):
        own = [found[f"{name}_{leaf}"] for leaf in ("moving_mean", "moving_var", "gamma", "beta")]
        out = F.batch_norm(out.relu() if name == "stage1_bn1" else out, *own, eps=eps)
    out = F.linear(out.flatten(1), found["fc_weight"], found["fc_bias"])
    assert torch.allclose(out, torch.from_numpy(stated["outputs"]), rtol=1e-5, atol=1e-5)


def test_gluon_names_modules():
    found, source = read(FILES / "gluon.params")
    expected = np.load(FILES / "gluon.npz")
    assert all(np.array_equal(found[name].numpy(), expected[name]) for name in expected)
    assert [(one.unit, one.leaf) for one in source.tensors][2:4] == [("1", "gamma"), ("1", "beta")]
    assert "would state which BatchNorm layers have fix_gamma" in source.notes[0]


def test_dtypes_and_arrays_without_names():
    found, source = read(FILES / "dtypes.params")
    expected = np.load(FILES / "dtypes.npz")
    assert all(np.array_equal(found[name].numpy(), expected[name]) for name in expected)
    assert [one.dtype for one in source.tensors] == list(expected)
    assert {name: one.tolist() for name, one in read(FILES / "unnamed.params")[0].items()} == {
        "array_0": [[1, 1, 1], [1, 1, 1]]
    }


@pytest.mark.parametrize(
    ("name", "place"),
    [("conv0_weight", ("conv0", "weight")), ("a.b.running_var", ("a/b", "running_var")), ("lstm_l0_i2h_weight",
     ("lstm", "l0_i2h_weight")), ("rnn.i2h_bias", ("rnn", "i2h_bias")), ("other", ("", "other"))],
)  # fmt: skip
def test_units_by_name(name, place):
    assert mxnet._place(name) == place


def older(shape, raw, *, magic=None, kind=0, storage=None):
    head = b"" if magic is None else struct.pack("<I", magic)
    head += b"" if storage is None else struct.pack("<i", storage)
    layout = "I" if magic is None else "q"
    return head + struct.pack(f"<I{len(shape)}{layout}3i", len(shape), *shape, 1, 0, kind) + raw


def listed(*arrays, names=("a",)):
    tail = struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(one)) + one.encode() for one in names)
    return struct.pack("<3Q", 0x112, 0, len(arrays)) + b"".join(arrays) + tail


@pytest.mark.parametrize(
    "array",
    [older([3], struct.pack("<3f", 1, 2, 3)), older([3], struct.pack("<3f", 1, 2, 3), magic=0xF993FAC8),
     older([3], struct.pack("<3f", 1, 2, 3), magic=0xF993FACA, storage=0)],
)  # fmt: skip
def test_formats_of_other_versions(tmp_path, array):
    (tmp_path / "a.params").write_bytes(listed(array))
    assert read(tmp_path / "a.params")[0]["a"].tolist() == [1, 2, 3]


def refused(path, match, received=""):
    with pytest.raises(PortError, match=match) as caught:
        read(path)
    assert received in caught.value.received


V2 = {"magic": 0xF993FAC9, "storage": 0}


@pytest.mark.parametrize(
    "raw",
    [listed(older([3], bytes(8), **V2)), listed(older([3], bytes(12), **V2), names=("a", "b")),
     listed(older([3], bytes(12), **V2), older([3], bytes(12), **V2), names=("a", "a")),
     listed(older([3], bytes(12), **V2), older([3], bytes(12), **V2), names=("arg:a", "aux:a")),
     listed(older([3], bytes(12), **V2)) + b"\0", listed(older([3], bytes(13), **V2)), listed(older([], b"", **V2)),
     listed(older([2**62, 2**62], bytes(12), **V2)), listed(older([-3], bytes(12), **V2)),
     listed(older([1] * 65, bytes(4), **V2)), listed(older([3], bytes(12), **V2, kind=99)),
     listed(older([3], bytes(12), **V2), names=("a" * 5000,)), listed(older([3], bytes(12), **V2), names=("a\0",)),
     struct.pack("<3Q", 0x112, 0, 2**60), struct.pack("<3Q", 0x112, 1, 0), struct.pack("<2Q", 0x112, 0),
     struct.pack("<3Q", 0x112, 0, 1) + struct.pack("<I", 2**31)],
)  # fmt: skip
def test_files_that_contradict_themselves(tmp_path, raw):
    (tmp_path / "a.params").write_bytes(raw)
    refused(tmp_path / "a.params", "damaged")


def test_what_is_not_read_is_named(tmp_path):
    refused(FILES / "sparse.params", "sparse arrays, which are not supported")
    (tmp_path / "a.params").write_bytes(struct.pack("<3Q", 0xF7E58D4F05049CB7, 0, 0))
    refused(tmp_path / "a.params", "compiled by TVM are not supported")


def test_symbols_that_are_no_graph(tmp_path):
    shutil.copy(FILES / "net-0003.params", tmp_path / "net-0003.params")
    node = {"op": "relu", "name": "a", "inputs": [[0, 0, 0]]}
    for whole in ([], {}, {"nodes": [1]}, {"nodes": [node]}, {"nodes": [{**node, "inputs": [[9]]}]}, {"nodes": [{}]}):
        (tmp_path / "net-symbol.json").write_text(json.dumps(whole))
        refused(tmp_path / "net-0003.params", "damaged", "not an MXNet graph")


def test_other_files_are_not_claimed(tmp_path):
    for content in (b"", b"\x12\1", bytes(60)):
        (tmp_path / "a").write_bytes(content)
        with WeightFile(tmp_path / "a") as file:
            assert not mxnet.claims(file)
