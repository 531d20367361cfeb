import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from frostline.core.errors import PortError
from frostline.porting.readers.caffe import claims, read
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, number

FILES = Path(__file__).parents[1] / "files" / "caffe"


@pytest.fixture
def source():
    files = []

    def call(path):
        files.append(WeightFile(path))
        assert claims(files[-1])
        return read(files[-1])

    yield call
    for file in files:
        file.close()


def units(found):
    whole = {}
    for tensor in found.tensors:
        assert tuple(tensor.load().shape) == tensor.shape
        whole.setdefault(tensor.unit, {})[tensor.leaf] = tensor.load()
    return whole


def test_a_network_computes_what_opencv_computes(source):
    found = source(FILES / "net.caffemodel")
    w, case = units(found), np.load(FILES / "net.npz")
    x = F.conv2d(torch.from_numpy(case["x"]), w["conv"]["weight"], stride=2, padding=1)
    x = F.batch_norm(x, w["bn"]["mean"], w["bn"]["variance"], w["scale"]["gamma"], w["scale"]["beta"], eps=1e-3)
    x = F.max_pool2d(F.prelu(x, w["act"]["slope"]), 2, ceil_mode=True)
    x = F.conv_transpose2d(x, w["up"]["weight"], w["up"]["bias"], stride=2)
    x = F.linear(x.flatten(1), w["fc"]["weight"], w["fc"]["bias"])
    torch.testing.assert_close(x, torch.from_numpy(case["y"]), rtol=1e-4, atol=1e-5)
    assert (found.framework, found.order) == ("caffe", "graph")
    assert found.notes[0] == "The architecture was read from net.prototxt beside the file."
    assert [layer.kind for layer in found.layers][:4] == ["Input", "Convolution", "BatchNorm", "Scale"]
    assert found.layers[2].config == {"batch_norm_param": {"use_global_stats": True, "eps": 1e-3}}
    assert found.layers[2].inputs == ("conv",)
    assert found.layers[0].config == {"input_param": {"shape": {"dim": [1, 3, 9, 9]}}}


def test_a_network_of_version_1(source):
    found = source(FILES / "old.caffemodel")
    w, case = units(found), np.load(FILES / "old.npz")
    assert (w["fc"]["weight"].shape, w["fc"]["bias"].shape, w["conv"]["bias"].shape) == ((5, 36), (5,), (4,))
    x = F.conv2d(torch.from_numpy(case["x"]), w["conv"]["weight"], w["conv"]["bias"]).relu()
    x = F.linear(x.flatten(1), w["fc"]["weight"], w["fc"]["bias"])
    torch.testing.assert_close(x, torch.from_numpy(case["y"]), rtol=1e-4, atol=1e-5)
    assert [layer.kind for layer in found.layers] == ["Input", "Convolution", "ReLU", "InnerProduct"]
    assert found.layers[0].config["input_param"]["shape"]["dim"] == [1, 3, 5, 5]


def test_without_a_description_the_file_gives_its_own(source, tmp_path):
    shutil.copy(FILES / "net.caffemodel", tmp_path / "net.caffemodel")
    found = source(tmp_path / "net.caffemodel")
    assert "there is no .prototxt beside it" in found.notes[0]
    assert [layer.kind for layer in found.layers][:3] == ["Convolution", "BatchNorm", "Scale"]
    assert found.layers[1].config["batch_norm_param"]["eps"] == pytest.approx(1e-3)
    assert found.layers[5].inputs == ("pool",)


def test_descriptions_that_do_not_fit(source, tmp_path):
    shutil.copy(FILES / "net.caffemodel", tmp_path / "net.caffemodel")
    (tmp_path / "deploy.prototxt").write_text((FILES / "old.prototxt").read_text())
    assert "deploy.prototxt beside the file describes another network" in source(tmp_path / "net.caffemodel").notes[0]
    (tmp_path / "deploy.prototxt").write_text("layer {")
    assert "was not read" in source(tmp_path / "net.caffemodel").notes[0]
    (tmp_path / "deploy.prototxt").unlink()
    (tmp_path / "deploy.prototxt").symlink_to(FILES / "net.prototxt")
    assert "was not read" in source(tmp_path / "net.caffemodel").notes[0]
    layer = 'layer { name: "loss" type: "SoftmaxWithLoss" include { phase: TRAIN } }'
    (tmp_path / "net.prototxt").write_text((FILES / "net.prototxt").read_text() + layer)
    assert source(tmp_path / "net.caffemodel").layers[-1].name == "prob"


def blob(values, *shape, legacy=False):
    sizes = b"".join(number(1 + k, size) for k, size in enumerate(shape)) if legacy else b""
    shaped = sizes if legacy else block(7, b"".join(number(1, size) for size in shape))
    return shaped + block(5, np.full(values, 2, "<f4").tobytes())


def network(kind, *blobs, name="a"):
    return block(1, "n") + block(100, block(1, name) + block(2, kind) + b"".join(block(7, b) for b in blobs))


@pytest.fixture
def built(tmp_path):
    def call(data):
        (tmp_path / "a.caffemodel").write_bytes(data)
        with WeightFile(tmp_path / "a.caffemodel") as file:
            assert claims(file)
            return {tensor.leaf: tensor.load() for tensor in read(file).tensors}

    return call


def test_statistics_are_multiplied_with_the_reciprocal_of_their_factor(built):
    half = built(network("BatchNorm", blob(3, 3), blob(3, 1, 3, 1, 1, legacy=True), blob(1, 1)))
    assert {leaf: value.tolist() for leaf, value in half.items()} == {"mean": [1, 1, 1], "variance": [1, 1, 1]}
    zero = block(7, number(1, 1)) + block(5, bytes(4))
    assert built(network("BatchNorm", blob(3, 3), blob(3, 3), zero))["mean"].tolist() == [0, 0, 0]  # as Caffe does


def test_a_factor_too_small_for_its_reciprocal_gives_no_finite_statistics(built):
    tiny = block(7, number(1, 1)) + block(5, np.array([1e-45], "<f4").tobytes())
    assert torch.isinf(built(network("BatchNorm", blob(3, 3), blob(3, 3), tiny))["mean"]).all()


def test_values_of_double_precision_and_layers_of_other_kinds(built):
    double = block(7, number(1, 2)) + block(8, np.array([1.5, 2.5]).tobytes())
    (value,) = built(network("Custom", double)).items()
    assert (value[0], value[1].dtype, value[1].tolist()) == ("blob0", torch.float64, [1.5, 2.5])


@pytest.mark.parametrize(
    "data",
    [
        network("Scale", blob(3, 2)), network("Scale", blob(1, 2)),  # a value too many, one too few
        network("Scale", blob(1, 2**62, 4)), network("Scale", blob(1, -1)), network("Scale", block(5, bytes(4))),
        network("Scale", blob(2, 2) + block(8, bytes(16))), network("BatchNorm", blob(3, 3), blob(3, 3)),
        network("Scale", blob(1, 1)) + network("Scale", blob(1, 1))[3:], network("Scale", blob(1, 1), name="a\0"),
        network("Scale", block(7, number(1, 1)) + block(5, bytes(3))), network("Scale", blob(2, 2))[:-3],
    ],
)  # fmt: skip
def test_damaged_blobs_are_refused(built, data):
    with pytest.raises(PortError, match="damaged"):
        built(data)


def test_the_oldest_version_is_refused(built):
    with pytest.raises(PortError, match="Caffe's oldest version"):
        built(block(1, "n") + block(2, block(1, block(1, "conv") + block(2, "conv"))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        block(1, "hello"),
        number(1, 8) + block(7, b""),
        b"\x89HDF\r\n\x1a\n",
        block(1, block(1, "a") + block(2, "Const")),
    ],
)
def test_other_files_are_not_claimed(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with WeightFile(tmp_path / "a") as file:
        assert not claims(file)
