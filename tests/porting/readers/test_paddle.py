import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import paddle
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "paddle"


def read(path, key=None):
    with WeightFile(path) as file:
        assert paddle.claims(file)
        source = paddle.read(file, key)
        return {one.name: one.load() for one in source.tensors}, source


@pytest.mark.parametrize("name", ["protocol2", "protocol4", "run"])
def test_what_paddle_saved(name):
    found, source = read(FILES / f"{name}.pdparams")
    expected = np.load(FILES / "state.npz")
    assert (source.format, source.framework) == ("PaddlePaddle weights", "paddle")
    assert list(found) == list(expected)
    assert all(np.array_equal(found[one].numpy(), expected[one]) for one in expected)
    assert [(one.unit, one.leaf) for one in source.tensors][4:7] == [
        ("body/1", "_mean"), ("body/1", "_variance"), ("table", "weight")
    ]  # fmt: skip


def test_a_training_run():
    _, source = read(FILES / "run.pdparams")
    assert source.notes == ("The weights were taken from the entry 'model'.",)
    assert set(source.dropped.values()) == {"optimizer slot"}
    assert "optimizer.linear_0.w_0_moment1_0" in source.dropped


def test_bfloat16_is_written_as_unsigned_integers():
    found, source = read(FILES / "half.pdparams")
    expected = np.load(FILES / "half.npz")
    assert [one.dtype for one in source.tensors] == ["bfloat16", "float16"]
    assert torch.equal(found["a"], torch.from_numpy(expected["a"]).bfloat16())
    assert np.array_equal(found["b"].numpy(), expected["b"])


def dumped(path, value, **how):
    path.write_bytes(pickle.dumps(value, **how))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [0, 3, 3000])
def test_other_pickles_of_arrays(tmp_path, protocol, size):
    arrays = {"a": np.arange(size, dtype=np.uint16), "b": np.asfortranarray(np.ones((2, size)))}
    found, source = read(dumped(tmp_path / "a.pkl", arrays, protocol=protocol))
    assert (source.format, source.framework) == ("pickle of arrays", "numpy")
    assert all(np.array_equal(found[name].numpy(), arrays[name]) for name in arrays)
    assert "layout of its arrays is unknown" in source.notes[0]


def test_arrays_that_are_damaged(tmp_path):
    path = dumped(tmp_path / "a.pkl", {"a": np.ones(3000)}, protocol=2)
    raw = path.read_bytes()
    for other in (
        raw + b"more",
        raw[:-1],
        raw.replace(b"M\xb8\x0b", b"M\xb9\x5f"),
        raw.replace(b"M\xb8\x0b", b"M\xb7\x0b"),
    ):
        path.write_bytes(other)
        with pytest.raises(PortError, match="damaged"):
            read(path)
    path.write_bytes(raw.replace(b"\xc3\xb0?", b"\xe4\xb8\x80", 1))  # a character that stands for no byte
    with pytest.raises(PortError, match="damaged"):
        read(path)


def test_arrays_of_texts_are_no_weights(tmp_path):
    with pytest.raises(PortError, match="no named tensors in"):
        read(dumped(tmp_path / "a.pkl", {"a": np.array(["x"])}))


def test_models_are_code(tmp_path):
    from sklearn.linear_model import LinearRegression

    with pytest.raises(PortError, match="contains more than data") as caught:
        read(dumped(tmp_path / "a.pkl", LinearRegression()))
    assert caught.value.received == "sklearn.linear_model._base.LinearRegression, which was not called"
    assert "paddle.save" in caught.value.do


def test_files_of_pytorch_are_not_claimed(tmp_path):
    torch.save({}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "b").write_bytes(b"\x80")
    for name in ("a.pt", "b"):
        with WeightFile(tmp_path / name) as file:
            assert not paddle.claims(file)
