import struct

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import darknet
from frostline.porting.readers.darknet import Layer
from frostline.porting.readers.weight_file import WeightFile

# Darknet is a program in C without a package for Python: the files are written here, as `save_weights` of its parser.c
# writes them.
CFG = """
[net]
# a comment
width=32
channels=3

[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
activation=leaky

[convolutional]
filters=4
size=1
groups=2

[shortcut]
from=-2
activation=linear

[route]
layers=-1,0

[reorg]
stride=2

[convolutional]
filters=2
; another comment
[yolo]
anchors = 10,13,  16,30
"""
SHAPES = [
    ("0_convolutional/bn", "biases", (4,)), ("0_convolutional/bn", "scales", (4,)),
    ("0_convolutional/bn", "rolling_mean", (4,)), ("0_convolutional/bn", "rolling_variance", (4,)),
    ("0_convolutional", "weights", (4, 3, 3, 3)),
    ("1_convolutional", "biases", (4,)), ("1_convolutional", "weights", (4, 2, 1, 1)),
    ("5_convolutional", "biases", (2,)), ("5_convolutional", "weights", (2, 32, 1, 1)),
]  # fmt: skip
COUNT = sum(int(np.prod(shape)) for _, _, shape in SHAPES)


def written(tmp_path, count=COUNT, *, minor=2, cfg=CFG):
    seen = struct.pack("<q" if minor >= 2 else "<i", 32013312)
    floats = np.arange(count, dtype="<f4")
    (tmp_path / "net.weights").write_bytes(struct.pack("<3i", 0, minor, 0) + seen + floats.tobytes())
    if cfg is not None:
        (tmp_path / "net.cfg").write_text(cfg)
    return tmp_path / "net.weights"


def read(path):
    with WeightFile(path) as file:
        assert darknet.claims(file)
        source = darknet.read(file)
        return {one.name: one.load() for one in source.tensors}, source


@pytest.mark.parametrize("minor", [1, 2])
def test_the_description_divides_the_floats(tmp_path, minor):
    found, source = read(written(tmp_path, minor=minor))
    assert [(one.unit, one.leaf, one.shape) for one in source.tensors] == SHAPES
    assert np.array_equal(np.concatenate([one.numpy().ravel() for one in found.values()]), np.arange(COUNT))
    assert (source.framework, source.order) == ("darknet", "graph")
    assert [(one.name, one.inputs) for one in source.layers][1:5] == [
        ("0_convolutional/bn", ("0_convolutional",)), ("1_convolutional", ("0_convolutional/bn",)),
        ("2_shortcut", ("1_convolutional", "0_convolutional/bn")), ("3_route", ("2_shortcut", "0_convolutional/bn")),
    ]  # fmt: skip
    assert source.layers[0].config["activation"] == "leaky"


def test_without_a_description_there_is_one_row_of_floats(tmp_path):
    path = written(tmp_path, cfg=None)
    found, source = read(path)
    assert list(found) == ["floats"]
    assert np.array_equal(found["floats"].numpy(), np.arange(COUNT))
    assert "no names" in source.notes[0]
    layers = [
        Layer("a", (4, 3, 3, 3), has_batch_norm=True),
        Layer("b", (COUNT - 124 - 1, 1, 1, 1), has_batch_norm=False),
    ]
    with WeightFile(path) as file, pytest.raises(PortError, match="not contain the weights of this network") as caught:
        darknet.divided(file, layers)
    assert caught.value.received == f"{COUNT} floats; the network has {124 + 2 * (COUNT - 125)}"
    with WeightFile(path) as file:
        first = darknet.divided(file, [layers[0], Layer("b", (1, COUNT - 125, 1, 1), has_batch_norm=False)])[0]
        assert (first.name, first.leaf, first.load().tolist()) == ("a/bn.biases", "biases", [0, 1, 2, 3])


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
def test_one_float_too_few_or_too_many(tmp_path, count):
    with pytest.raises(PortError, match="not contain the weights of this network") as caught:
        read(written(tmp_path, count))
    assert f"{count} floats; the network has {COUNT}" in caught.value.received


def test_layers_that_are_not_read_are_named(tmp_path):
    with pytest.raises(PortError, match="Darknet layers that are not supported") as caught:
        read(written(tmp_path, cfg=CFG + "[connected]\noutput=10\n"))
    assert caught.value.received == "[connected] is layer 7"


@pytest.mark.parametrize(
    "cfg",
    ["", "[convolutional]\n", "[net]\nchannels=-3\n", "[net]\nfilters\n", "[net]\n[route]\nlayers=-1\n",
     "[net]\n[yolo]\n[route]\nlayers=x\n", "[net]\n[yolo]\n[shortcut]\nfrom=5\n", "[net]\n[convolutional]\ngroups=2\n",
     "[net]\n[convolutional]\ngroups=0\n", "[net]\n[convolutional]\nsize=1e3\n", "[net]\n" + "[yolo]\n" * 10_001,
     "[net]\n" + "#" * (1 << 20)],
)  # fmt: skip
def test_descriptions_that_are_no_network(tmp_path, cfg):
    with pytest.raises(PortError, match="damaged"):
        read(written(tmp_path, cfg=cfg))


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 11, struct.pack("<3i", 1, 0, 0) + bytes(16), struct.pack("<3i", 0, 9, 0) + bytes(16),
     struct.pack("<3i", 0, 2, 0) + bytes(8), struct.pack("<3i", 0, 2, 0) + bytes(13),
     struct.pack("<3i", 0, 2, 99) + bytes(16)],
)  # fmt: skip
def test_other_files_are_not_claimed(tmp_path, raw):
    (tmp_path / "a.weights").write_bytes(raw)
    with WeightFile(tmp_path / "a.weights") as file:
        assert not darknet.claims(file)
