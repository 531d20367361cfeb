import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from frostline.core.errors import PortError
from frostline.porting.readers import safetensors
from frostline.porting.readers.weight_file import WeightFile


def file_of(header, data=b"", *, path):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def read(path):
    with WeightFile(path) as file:
        assert safetensors.claims(file)
        source = safetensors.read(file, None)
        return source, {tensor.name: tensor.load() for tensor in source.tensors}


def tensors_of_every_type():
    return {
        f"layer.{str(dtype).removeprefix('torch.')}": torch.arange(-3, 9).reshape(3, 4).to(dtype)
        for dtype in (
            torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
            torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
        )
    }  # fmt: skip


def test_tensors_of_every_type(tmp_path):
    wanted = tensors_of_every_type() | {"scalar": torch.tensor(2.0), "none": torch.zeros(0, 3)}
    save_file(wanted, tmp_path / "a.safetensors", metadata={"format": "pt"})
    source, found = read(tmp_path / "a.safetensors")
    assert (source.format, source.framework, source.order) == ("safetensors", "torch", "file")
    assert set(found) == set(wanted)
    for tensor in source.tensors:
        values = wanted[tensor.name]
        assert (tensor.shape, f"torch.{tensor.dtype}") == (tuple(values.shape), str(values.dtype))
        assert found[tensor.name].dtype == values.dtype
        assert torch.equal(found[tensor.name].reshape(-1).view(torch.uint8), values.reshape(-1).view(torch.uint8))
        assert (tensor.unit, tensor.leaf) == tuple(("." + tensor.name).lstrip(".").rpartition(".")[::2])


FILES = Path(__file__).parents[1] / "files" / "plain"


@pytest.mark.parametrize("name", ["half.safetensors", "model.safetensors.index.json"])
def test_files_of_hugging_face(name):
    source, found = read(FILES / name)
    with np.load(FILES / "network.npz") as stored:
        wanted = {key: torch.from_numpy(stored[key]) for key in stored}
    assert {tensor.name.removeprefix("module.") for tensor in source.tensors} == wanted.keys()
    for tensor in source.tensors:
        values = wanted[tensor.name.removeprefix("module.")]
        assert torch.equal(found[tensor.name], values.to(found[tensor.name].dtype))
    assert {tensor.unit for tensor in source.tensors} == {"0", "1", "2/0", "2/1"}


def test_names_are_those_of_a_state_dict(tmp_path):
    save_file({"module.a.b.weight": torch.ones(1), "module.a.b.bias": torch.ones(1)}, tmp_path / "a.safetensors")
    source, _ = read(tmp_path / "a.safetensors")
    assert {(tensor.unit, tensor.leaf) for tensor in source.tensors} == {("a/b", "weight"), ("a/b", "bias")}
    assert source.notes == ("The prefixes 'module' of wrappers were removed from the names.",)


@pytest.mark.parametrize(
    ("format_name", "framework", "name", "place"),
    [
        ("tf", "keras", "bert/pooler/kernel:0", ("bert/pooler", "kernel")),
        ("flax", "flax", "params.dense.kernel", ("dense", "kernel")),
    ],
)
def test_other_frameworks_have_other_layouts(tmp_path, format_name, framework, name, place):
    save_file({name: torch.ones(2, 2)}, tmp_path / "a.safetensors", metadata={"format": format_name})
    source, _ = read(tmp_path / "a.safetensors")
    assert source.framework == framework
    assert (source.tensors[0].unit, source.tensors[0].leaf) == place


def test_convolutions_of_mlx_are_refused(tmp_path):
    save_file({"a.weight": torch.ones(2, 3)}, tmp_path / "a.safetensors", metadata={"format": "mlx"})
    assert read(tmp_path / "a.safetensors")[0].framework == "torch"
    save_file({"a.weight": torch.ones(2, 3, 3, 3)}, tmp_path / "a.safetensors", metadata={"format": "mlx"})
    with pytest.raises(PortError, match="MLX, whose convolution kernels have another layout"):
        read(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("header", "data", "received"),
    [
        (b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}", b"1234", "twice"),
        (b"{" + b"[" * 100_000, b"", "levels deep"),
        (b"{\xff}", b"", "invalid JSON"),
        ({"a": entry(offsets=(0, 4)), "b": entry(offsets=(0, 4))}, b"1234", "a gap or an overlap of tensors"),
        ({"a": entry(offsets=(0, 4)), "b": entry(offsets=(8, 12))}, b"1" * 12, "a gap or an overlap of tensors"),
        ({"a": entry(offsets=(4, 0))}, b"1234", "needs 4 bytes, but has -4"),
        ({"a": entry(shape=(2,))}, b"1234", "needs 8 bytes, but has 4"),
        ({"a": entry()}, b"12345", "the header describes"),
        ({"a": entry()}, b"123", "the header describes"),
        ({"a": entry(offsets=(2**70, 2**70 + 4))}, b"1234", "a gap or an overlap of tensors"),
        ({"a": entry(shape=(2**62, 8))}, b"1234", "needs"),
        ({"a": entry(shape=(-1, -1))}, b"1234", "with the shape"),
        ({"a": entry(shape=(1.0,))}, b"1234", "with the shape"),
        ({"a": entry(shape=(True,))}, b"1234", "with the shape"),
        ({"a": entry(shape=(1,) * 65)}, b"1234", "an array of the impossible shape"),
        ({"a": entry(offsets=(0,))}, b"1234", "with the shape"),
        ({"a": entry() | {"more": 1}}, b"1234", "without dtype, shape and data_offsets"),
        ({"a": 3}, b"", "without dtype, shape and data_offsets"),
        ({"a\0b": entry()}, b"1234", "an array named"),
        ({"a": entry(), "__metadata__": {"format": 3}}, b"1234", "metadata"),
        ({"a": entry(), "__metadata__": []}, b"1234", "metadata"),
    ],
    ids=range(21),
)
def test_wrong_headers_are_refused(tmp_path, header, data, received):
    with pytest.raises(PortError, match="damaged") as caught:
        read(file_of(header, data, path=tmp_path / "a"))
    assert received in caught.value.received


@pytest.mark.parametrize("dtype", ["F4", "I128", "O", "", None, 3])
def test_other_types_are_refused(tmp_path, dtype):
    with pytest.raises(PortError, match="a tensor with a dtype that PyTorch does not have|damaged"):
        read(file_of({"a": entry(dtype=dtype)}, b"1234", path=tmp_path / "a"))


@pytest.mark.parametrize("size", [0, 1, 10**9, 2**63])
def test_sizes_of_headers_are_compared_with_the_file(tmp_path, size):
    (tmp_path / "a").write_bytes(struct.pack("<Q", size) + b"{}")
    with WeightFile(tmp_path / "a") as file:
        assert not safetensors.claims(file)
        with pytest.raises(PortError, match="damaged"):
            safetensors.read(file, None)


def in_shards(folder, *, names=("a.safetensors", "b.safetensors")):
    save_file(
        {"x.weight": torch.ones(2), "x.bias": torch.zeros(2)}, folder / "a.safetensors", metadata={"format": "pt"}
    )
    save_file({"y.weight": torch.full((3,), 2.0)}, folder / "b.safetensors", metadata={"format": "pt"})
    places = {"x.weight": names[0], "x.bias": names[0], "y.weight": names[1]}
    (folder / "index.json").write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": places}))
    return folder / "index.json"


def test_shards_are_read_through_their_index(tmp_path):
    source, found = read(in_shards(tmp_path))
    assert source.format == "safetensors in shards"
    assert [tensor.name for tensor in source.tensors][-1] == "y.weight"
    assert torch.equal(found["y.weight"], torch.full((3,), 2.0))
    with WeightFile(tmp_path / "index.json") as file:
        source = safetensors.read(file, None)
        save_file({"y.weight": torch.full((3,), 3.0)}, tmp_path / "b.safetensors", metadata={"format": "pt"})
        with pytest.raises(PortError, match="changed while it was read"):
            source.tensors[-1].load()


@pytest.mark.parametrize("name", ["../b.safetensors", "/b.safetensors", "folder/b.safetensors"])
def test_shards_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(PortError, match="outside of its folder"):
        read(in_shards(tmp_path, names=("a.safetensors", name)))


def test_an_index_that_contradicts_its_shards_is_refused(tmp_path):
    index = in_shards(tmp_path)
    stated = json.loads(index.read_text())
    for change, received in (
        ({"z.weight": "b.safetensors"}, "contradict each other about 'z.weight'"),
        ({"x.bias": "b.safetensors"}, "contradict each other about 'x.bias'"),
        ({"y.weight": 3}, "without the shard of each tensor"),
    ):
        index.write_text(json.dumps({"weight_map": stated["weight_map"] | change}))
        with pytest.raises(PortError, match="damaged") as caught:
            read(index)
        assert received in caught.value.received
    index.write_text(json.dumps({"weight_map": {**stated["weight_map"], "q": "missing.safetensors"}}))
    with pytest.raises(PortError, match="Cannot open the file of weights"):
        read(index)
    save_file({"y.weight": torch.ones(3)}, tmp_path / "b.safetensors", metadata={"format": "tf"})
    index.write_text(json.dumps(stated))
    with pytest.raises(PortError, match="shards of several frameworks"):
        read(index)
