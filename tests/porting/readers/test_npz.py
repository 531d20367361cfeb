import io
import struct
import zipfile

import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import npz
from frostline.porting.readers.weight_file import WeightFile


def read(path):
    with WeightFile(path) as file:
        assert npz.claims(file)
        source = npz.read(file, None)
        return source, {tensor.name: tensor.load() for tensor in source.tensors}


def refuse(path, what, received=""):
    with WeightFile(path) as file, pytest.raises(PortError, match=what) as caught:
        npz.read(file, None)
    assert received in caught.value.received


def arrays_of_every_type():
    values = np.arange(12).reshape(3, 4)
    found = {code: values.astype(code) for code in "f8 f4 f2 i8 i4 i2 i1 u8 u4 u2 u1 b1 c8 c16 >f4 >i8".split()}
    return {
        **found,
        "fortran": np.asfortranarray(values),
        "three": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        "scalar": np.float32(3),
        "none": np.zeros((0, 3)),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_every_type(tmp_path, save):
    wanted = arrays_of_every_type()
    save(tmp_path / "a.npz", **wanted)
    source, found = read(tmp_path / "a.npz")
    assert set(found) == set(wanted)
    for tensor in source.tensors:
        values = np.asarray(wanted[tensor.name])
        assert (tensor.shape, tensor.dtype) == (values.shape, values.dtype.name)
        assert found[tensor.name].is_contiguous()
        assert np.array_equal(found[tensor.name].numpy(), values)
    assert source.framework == "numpy"
    assert source.notes == ("The names of the arrays fit no framework: their layout is unknown.",)


def test_one_array_is_a_file(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    source, found = read(tmp_path / "a.npy")
    assert torch.equal(found["array"], torch.arange(6.0, dtype=torch.float64).reshape(2, 3))
    assert source.format == "NumPy array"


def test_training_states_of_big_vision(tmp_path):
    half = np.array([0x3FC0, 0xC000], np.uint16).view("V2")
    np.savez(
        tmp_path / "a.npz",
        **{
            "opt/target/Transformer/encoderblock_10/MlpBlock_3/Dense_0/kernel": np.ones((2, 2), np.float32),
            "opt/target/Transformer/encoderblock_2/MlpBlock_3/Dense_0/kernel": np.zeros((2, 2), np.float32),
            "opt/target/head/bias": half,
            "opt/target/cls": np.ones((1, 1, 2), np.float32),
            "opt/state/head/bias/grad_ema": np.ones(2, np.float32),
            "extra/accum_train_time": np.float32(1),
        },
    )
    source, found = read(tmp_path / "a.npz")
    assert (source.framework, source.order) == ("flax", "numbers")
    units = [tensor.unit for tensor in source.tensors]
    assert units.index("Transformer/encoderblock_2/MlpBlock_3/Dense_0") < units.index(
        "Transformer/encoderblock_10/MlpBlock_3/Dense_0"
    )
    assert ("", "cls") in [(tensor.unit, tensor.leaf) for tensor in source.tensors]
    assert dict(source.dropped) == {
        "opt/state/head/bias/grad_ema": "optimizer slot",
        "extra/accum_train_time": "counter",
    }
    assert torch.equal(found["opt/target/head/bias"], torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert source.notes == (
        "The weights were taken from 'opt/target/'.",
        "Elements of two bytes without a dtype were read as bfloat16, which JAX stores in this form.",
    )


@pytest.mark.parametrize(
    ("names", "framework", "place"),
    [
        (["params/img/head/kernel", "params/img/head/bias"], "flax", ("img/head", "kernel")),
        (["module.a.weight", "module.a.bias", "module.b.weight"], "torch", ("a", "weight")),
        (["bn/gamma:0", "bn/beta:0", "conv/kernel:0"], "keras", ("bn", "gamma")),
        (["dense/kernel:0", "dense/bias:0"], "keras", ("dense", "kernel")),
        (["conv1/weights", "conv1/biases"], "tensorflow", ("conv1", "weights")),
    ],
)
def test_the_words_of_a_framework_tell_it(tmp_path, names, framework, place):
    np.savez(tmp_path / "a.npz", **{name: np.ones(2) for name in names})
    source, _ = read(tmp_path / "a.npz")
    assert source.framework == framework
    assert place in [(tensor.unit, tensor.leaf) for tensor in source.tensors]


def npy(descr, shape, data=b"", version=(1, 0)):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + data


def test_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refuse(tmp_path / "a.npy", "an array whose elements are not numbers", "|O")
    np.savez(tmp_path / "a.npz", a=np.array(["text"]))
    refuse(tmp_path / "a.npz", "an array whose elements are not numbers", "<U4")
    for descr in ("'|V3'", "'<M8[s]'", "[('a', '<f4')]", "'<f16'", "'|S4'"):
        (tmp_path / "a.npy").write_bytes(npy(descr, "(1,)", b"1234"))
        refuse(tmp_path / "a.npy", "an array whose elements are not numbers")


@pytest.mark.parametrize(
    "content",
    [
        npy("'<f4'", "(1000000, 1000000)", b"1234"),
        npy("'<f4'", "(1,)", b"12345"),
        npy("'<f4'", "(1,)", b"123"),
        npy("'<f4'", "(" + "1, " * 65 + ")", b"1234"),
        npy("'<f4'", "(" + "9" * 4000 + ",)", b"1234"),
        npy("'<f4'", "(1,)", b"1234")[:40],
        npy("'<f4'", "(1,)", b"1234", version=(9, 0)),
        b"\x93NUMPY\1\0\xff\xff" + b" " * 70_000,
        b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 100,
        b"\x93NUMPY",
    ],
    ids=range(10),
)
def test_headers_that_do_not_fit_their_bytes_are_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    refuse(tmp_path / "a.npy", "damaged")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    refuse(tmp_path / "a.npz", "damaged")


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<f4', 'descr': '<f8', 'shape': (1,), }",
        b"{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,), }",
        b"[" * 9_000,
    ],
)
def test_headers_are_matched_and_not_evaluated(tmp_path, text):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + b"1234")
    refuse(tmp_path / "a.npy", "an array whose elements are not numbers")


def test_duplicate_members_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones(1))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", buffer.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", buffer.getvalue())
    refuse(tmp_path / "a.npz", "damaged", "two arrays named")


def test_other_archives_are_not_claimed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.npy", npy("'<f4'", "(1,)", b"1234"))
        archive.writestr("schema.json", b"{}")
    with WeightFile(tmp_path / "a.zip") as file:
        assert not npz.claims(file)


def test_a_kernel_may_be_of_two_frameworks_and_that_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", **{"dense/kernel": np.ones((2, 2)), "dense/bias": np.ones(2)})
    source, _ = read(tmp_path / "a.npz")
    assert source.framework == "flax"
    assert source.notes == (
        "The names fit Flax and Keras, whose layouts of transposed convolutions differ; Flax was assumed.",
    )


def test_statistics_of_flax_belong_to_the_layers_of_its_weights(tmp_path):
    arrays = {"params/norm/scale": np.ones(2), "batch_stats/norm/mean": np.zeros(2), "step": np.array(3)}
    np.savez(tmp_path / "w.npz", **arrays)
    with WeightFile(tmp_path / "w.npz") as file:
        source = npz.read(file)
    assert {(one.unit, one.leaf) for one in source.tensors} == {("norm", "scale"), ("norm", "mean")}
    assert source.dropped == {"step": "counter"}


def test_names_with_dots_are_paths_where_no_name_has_a_slash(tmp_path):
    np.savez(tmp_path / "w.npz", **{"params.conv1.kernel": np.ones((2, 2)), "params.norm.0.scale": np.ones(2)})
    source, _ = read(tmp_path / "w.npz")
    assert {(one.unit, one.leaf) for one in source.tensors} == {("conv1", "kernel"), ("norm/0", "scale")}
    assert {one.name for one in source.tensors} == {"params.conv1.kernel", "params.norm.0.scale"}
    np.savez(tmp_path / "v.npz", **{"v1.5/conv/kernel": np.ones((2, 2)), "scale.up": np.ones(2)})
    source, _ = read(tmp_path / "v.npz")
    assert {(one.unit, one.leaf) for one in source.tensors} == {("v1.5/conv", "kernel"), ("", "scale.up")}


@pytest.mark.parametrize("count", [2, 3])
def test_arrays_one_behind_the_other_are_named_as_what_they_are(tmp_path, count):
    with (tmp_path / "model.eqx").open("wb") as file:
        for size in range(count):
            np.save(file, np.ones((size + 1, 3), np.float32))
    refuse(tmp_path / "model.eqx", "as Equinox writes them")
    with (tmp_path / "model.npy").open("wb") as file:
        np.save(file, np.ones(3))
        file.write(b"something else")
    refuse(tmp_path / "model.npy", "damaged")


def test_a_key_under_which_nothing_is_stored_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **{"net/kernel": np.ones((2, 3)), "net/bias": np.ones(3)})
    with (
        WeightFile(tmp_path / "a.npz") as file,
        pytest.raises(PortError, match="The file contains no arrays under 'nat'") as error,
    ):
        npz.read(file, "nat")
    assert error.value.received == "2 arrays, such as 'net/kernel', 'net/bias'"
