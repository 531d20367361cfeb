import shutil
from pathlib import Path

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import caffe
from frostline.porting.readers.graph_def import claims, read
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, float32, number

FILES = Path(__file__).parents[1] / "files" / "tensorflow"
SCOPE = "sequential_2"
UNITS = {
    f"{SCOPE}/stem": ["kernel", "bias"], f"{SCOPE}/stem_bn": ["gamma", "beta", "moving_mean", "moving_variance"],
    f"{SCOPE}/depth": ["depthwise_kernel", "bias"], f"{SCOPE}/inner/squeeze": ["kernel", "bias"],
    f"{SCOPE}/head": ["kernel", "bias"],
}  # fmt: skip


def check(path):
    expected = np.load(FILES / "frozen.npz")
    with WeightFile(path) as file:
        assert claims(file)
        found = read(file)
        units = {}
        for tensor in found.tensors:
            units.setdefault(tensor.unit, []).append(tensor.leaf)
            assert tensor.load().numpy().tobytes() == expected[tensor.name].tobytes()
    assert units == UNITS
    return found


def test_a_frozen_network():
    found = check(FILES / "frozen.pb")
    assert (found.framework, found.order) == ("tensorflow", "graph")
    assert found.dropped == {f"{SCOPE}/flatten_2/Const": "constant of the graph"}
    layers = {layer.name: layer for layer in found.layers}
    assert [layer.name for layer in found.layers if layer.name in UNITS] == list(UNITS)
    bn = layers[f"{SCOPE}/stem_bn"]
    assert bn.kind == "FusedBatchNormV3"
    assert bn.config["epsilon"] == pytest.approx(1e-3)
    assert bn.inputs == (f"{SCOPE}/stem",)  # and not its BiasAdd, which is no layer
    assert layers[f"{SCOPE}/depth"].config["padding"] == "VALID"
    assert layers[f"{SCOPE}/flatten_2/Reshape"].config["constants"] == {f"{SCOPE}/flatten_2/Const": [-1, 36]}


def test_the_graph_of_a_saved_model(tmp_path):
    graph = (FILES / "frozen.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(number(1, 1) + block(2, block(2, graph)))
    check(tmp_path / "saved_model.pb")


def test_a_graph_whose_weights_are_elsewhere():
    with WeightFile(FILES / "saved_tfkeras" / "saved_model.pb") as file:
        assert claims(file)
        with pytest.raises(PortError, match="contains no weights, only variables"):
            read(file)


def test_the_graph_beside_a_checkpoint_of_tensorflow_1(tmp_path):
    variable = block(1, block(1, "w") + block(2, "VariableV2"))
    (tmp_path / "a.meta").write_bytes(block(1, block(2, number(1, 5))) + block(2, variable))
    with WeightFile(tmp_path / "a.meta") as file:
        assert claims(file)
        assert not caffe.claims(file)
        with pytest.raises(PortError, match="contains no weights, only variables"):
            read(file)


def node(name, kind, *inputs, value=b""):
    attribute = block(5, block(1, "value") + block(2, block(8, value))) if value else b""
    return block(1, block(1, name) + block(2, kind) + b"".join(block(3, given) for given in inputs) + attribute)


KERNEL = number(1, 1) + block(2, block(2, number(1, 2)) * 2) + block(4, np.arange(4, dtype="<f4").tobytes())
BIAS = number(1, 1) + block(2, block(2, number(1, 2))) + block(4, np.arange(2, dtype="<f4").tobytes())
SCALAR = number(1, 1) + block(2, b"") + float32(5, 0.5)


@pytest.fixture
def graph(tmp_path):
    def call(data):
        (tmp_path / "a.pb").write_bytes(data)
        with WeightFile(tmp_path / "a.pb") as file:
            assert claims(file)
            return read(file)

    return call


def test_additions_without_a_scope(graph):
    found = graph(
        node("x", "Placeholder") + node("w", "Const", value=KERNEL) + node("b", "Const", value=BIAS)
        + node("c", "Const", value=BIAS) + node("half", "Const", value=SCALAR) + node("mul", "MatMul", "x", "w")
        + node("add", "AddV2", "mul", "b:0") + node("again", "AddV2", "add", "c")
        + node("scaled", "Mul", "again", "half")
    )  # fmt: skip
    assert [(tensor.unit, tensor.leaf) for tensor in found.tensors] == [
        ("mul", "kernel"),
        ("mul", "bias"),
        ("again", "c"),
    ]
    assert [layer.name for layer in found.layers] == ["x", "mul", "again", "scaled"]
    assert found.layers[-1].config["constants"] == {"half": 0.5}
    assert found.layers[2].inputs == ("mul",)


def test_loops_end(graph):
    found = graph(node("x", "Placeholder") + node("a", "Merge", "x", "b") + node("b", "NextIteration", "a"))
    assert [layer.name for layer in found.layers] == ["x", "a", "b"]
    with pytest.raises(PortError, match="every node depends on another"):
        graph(node("a", "Merge", "b") + node("b", "NextIteration", "a"))


def test_a_name_twice_is_refused(graph):
    with pytest.raises(PortError, match="damaged"):
        graph(node("x", "Placeholder") * 2)


def test_nothing_is_run_and_nothing_else_is_opened(graph):
    assert graph(node("x", "ReadFile") + node("f", "PyFunc", "x")).tensors == ()


def test_other_files_are_not_claimed(tmp_path):
    for data in (b"", b"\x0a\x05hello\x12\x01a", number(1, 8) + block(7, b""), b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"):
        (tmp_path / "a").write_bytes(data)
        with WeightFile(tmp_path / "a") as file:
            assert not claims(file)
    shutil.copy(FILES / "frozen.pb", tmp_path / "a")
    cut = (tmp_path / "a").read_bytes()[:3_000]
    (tmp_path / "a").write_bytes(cut)
    with WeightFile(tmp_path / "a") as file:
        assert claims(file)
        with pytest.raises(PortError, match="damaged"):
            read(file)
