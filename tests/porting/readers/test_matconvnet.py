from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from frostline.core.errors import PortError
from frostline.porting.readers import matconvnet
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "matconvnet"
PARTS = {
    "conv1f": ("conv1", "filters", (3, 3, 2, 4)), "conv1b": ("conv1", "biases", (4,)),
    "bn1f": ("bn1", "multipliers", (4,)), "bn1b": ("bn1", "biases", (4,)), "bn1m": ("bn1", "mean", (4,)),
    "sigma": ("bn1", "sigma", (4,)),
}  # fmt: skip


def read(path, key=None):
    with WeightFile(Path(path)) as file:
        assert matconvnet.claims(file)
        source = matconvnet.read(file, key)
        return {one.name: one.load().numpy() for one in source.tensors}, source


@pytest.mark.parametrize(("name", "kind"), [("chain", "SimpleNN"), ("graph", "DagNN")])
def test_networks(name, kind):
    found, source = read(FILES / f"{name}.mat")
    expected = np.load(FILES / "weights.npz")
    assert (source.format, source.framework, source.order) == (f"MatConvNet {kind} (MATLAB)", "matconvnet", "graph")
    assert [(one.unit, one.leaf, one.shape) for one in source.tensors] == list(PARTS.values())
    for one, stored in zip(source.tensors, PARTS, strict=True):
        assert found[one.name].shape == one.shape
        if one.leaf in ("mean", "sigma"):
            assert np.array_equal(found[one.name], expected["bn1m"][:, ("mean", "sigma").index(one.leaf)])
        else:
            assert np.array_equal(found[one.name].ravel(), expected[stored].ravel())
    assert [layer.name for layer in source.layers][:2] == ["conv1", "bn1"]
    assert source.layers[1].inputs == ("conv1",)
    assert source.layers[1].config["epsilon"] == 1e-4


def test_a_network_inside_of_a_variable(tmp_path):
    layer = {"type": "conv", "name": "c", "filters": np.ones((1, 1, 3)), "biases": np.zeros((1, 1))}
    layers = np.empty((1, 3), object)
    layers[0, :] = [layer, layer, {"type": "custom", "weights": np.array([[np.ones((1, 2)), None]], object)[:, :1]}]
    savemat(tmp_path / "a.mat", {"net": {"layers": layers}, "best": {"layers": layers}})
    for key in (None, "best"):
        found, source = read(tmp_path / "a.mat", key)
        assert found["c.filters"].shape == (1, 1, 3, 1)
        assert [one.unit for one in source.tensors] == ["c", "c", "c_1", "c_1", "2"]
    for key in ("other", "__header__"):
        with pytest.raises(PortError, match="no network in the variable"):
            read(tmp_path / "a.mat", key)


def test_other_files_of_matlab(tmp_path):
    savemat(tmp_path / "a.mat", {"w": np.ones((2, 3)), "text": "x"})
    found, source = read(tmp_path / "a.mat")
    assert list(found) == ["w"]
    assert source.framework == "numpy"
    assert "layout is unknown" in source.notes[0]


def test_moments_are_two_columns(tmp_path):
    layers = np.empty((1, 1), object)
    weights = np.empty((1, 3), object)
    weights[0, :] = [np.ones((4, 1)), np.ones((4, 1)), np.ones((4, 3))]
    layers[0, 0] = {"type": "bnorm", "name": "b", "weights": weights}
    savemat(tmp_path / "a.mat", {"layers": layers})
    with pytest.raises(PortError, match="damaged") as caught:
        read(tmp_path / "a.mat")
    assert "moments" in caught.value.received


def test_layers_that_are_none(tmp_path):
    savemat(tmp_path / "a.mat", {"layers": np.array([["a", "b"]], object)})
    with pytest.raises(PortError, match="damaged"):
        read(tmp_path / "a.mat")


def test_files_of_hdf5_are_refused(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(PortError, match="version 7.3 are not supported") as caught:
        read(tmp_path / "a.mat")
    assert "-v7" in caught.value.do


def test_other_files_are_not_claimed(tmp_path):
    for content in (b"", b"MATLAB", b"MATLAB".ljust(124) + b"\0\2IM", b"other".ljust(124) + b"\0\1IM"):
        (tmp_path / "a").write_bytes(content)
        with WeightFile(tmp_path / "a") as file:
            assert not matconvnet.claims(file)
