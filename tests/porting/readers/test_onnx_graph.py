from pathlib import Path

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.onnx_graph import Graph
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, number

FILES = Path(__file__).parents[1] / "files" / "onnx"


@pytest.fixture
def read():
    files = []

    def call(name):
        files.append(WeightFile(FILES / f"{name}.onnx"))
        graph = Graph(files[-1])
        graph.add(Wire(files[-1]).message().message(7), "")
        return graph

    yield call
    for file in files:
        file.close()


def units(graph):
    whole = {}
    for tensor in graph.tensors():
        assert tuple(tensor.load().shape) == tensor.shape
        whole.setdefault(tensor.unit, {})[tensor.leaf] = tensor.name
    return whole


SHARED = {
    "features.0": {"scale": "features.0.weight", "B": "features.0.bias", "mean": "features.0.running_mean",
                   "var": "features.0.running_var"},
    "table": {"weight": "table.weight"}, "norm": {"scale": "norm.weight", "B": "norm.bias"}, "": {"scale": "scale"},
    "head": {"weight": "head.weight", "bias": "head.bias"},
}  # fmt: skip


def test_names_of_modules_are_kept_and_made_up_ones_are_the_nodes(read):
    graph = read("torchscript")
    assert units(graph) == SHARED | {
        "/features/features.1/conv/Conv": {"weight": "onnx::Conv_288", "bias": "onnx::Conv_289"},
        "proj": {"weight": "onnx::MatMul_290", "bias": "proj.bias"}, "act": {"slope": "act.weight"},
        "/lstm/LSTM": {"W": "onnx::LSTM_332", "R": "onnx::LSTM_333", "B": "onnx::LSTM_331"},
        "/gru/GRU": {"W": "onnx::GRU_353", "R": "onnx::GRU_354", "B": "onnx::GRU_355"},
    }  # fmt: skip
    assert list(graph.notes()) == [
        "The exporter folded a BatchNorm into 1 of the convolutions: /features/features.1/conv/Conv."
    ]


def test_the_newer_exporter(read):
    graph = read("exported")
    assert units(graph) == SHARED | {
        "features.1.conv": {"weight": "features.1.conv.weight", "bias": "features.1.conv.weight_bias"},
        "proj": {"weight": "val_25", "bias": "proj.bias"}, "node_prelu": {"slope": "val_212"},
        "node_lstm__2": {"W": "val_136", "R": "val_137", "B": "val_138"},
        "node_gru__1": {"W": "val_177", "R": "val_178", "B": "val_194"},
    }  # fmt: skip
    assert "folded a BatchNorm" in next(iter(graph.notes()))


def test_weights_of_which_the_exporter_put_some_in_order(read):
    graph = read("half_folded")
    assert units(graph) == {"l0": {"W": "weight_ih_l0", "R": "val_42", "B": "val_64"}}
    stored = np.load(FILES / "half_folded.npz")
    weight = next(tensor for tensor in graph.tensors() if tensor.leaf == "W")
    i, f, c, o = np.split(stored["weight_ih_l0"], 4)
    assert weight.load().numpy().tobytes() == np.concatenate([i, o, f, c]).tobytes()
    assert weight.shape == (1, 8, 1030)
    kinds = [layer.kind for layer in graph.layers()]
    assert "LSTM" in kinds
    assert not {"Concat", "Unsqueeze"} & set(kinds)


@pytest.mark.parametrize("name", ["torchscript", "exported"])
def test_tensors_are_in_the_order_of_the_network_and_are_its_own(read, name):
    graph = read(name)
    order = list(units(graph))
    assert [unit for unit in order if unit in SHARED] == ["features.0", "table", "norm", "", "head"]
    state = np.load(FILES / "state.npz")
    for tensor in graph.tensors():
        if tensor.name in state.files and tensor.name != "features.1.conv.weight":
            assert tensor.load().numpy().tobytes() == state[tensor.name].tobytes()
    layers = {layer.name: layer for layer in graph.layers()}
    assert layers["features.0"].config["epsilon"] == pytest.approx(1e-5)
    assert layers["head"].config["transB"] == 1
    assert "transB" not in layers["proj"].config  # a MatMul: its weight is (in, out)
    gru = next(layer for layer in graph.layers() if layer.kind == "GRU")
    assert (gru.config["hidden_size"], gru.config["linear_before_reset"]) == (3, 1)
    before = set()
    for layer in graph.layers():  # each can be computed after those before it
        assert set(layer.inputs) <= before
        before.add(layer.name)
    assert [layer.kind for layer in graph.layers()][:2] == ["Input", "Input"]
    assert graph.layers()[-1].kind == "Output"
    assert graph.layers()[0].config["shape"] == [1, 2, 4, 4]


def test_constants_graphs_inside_of_nodes_and_what_goes_through_others(read):
    graph = read("nested")
    assert units(graph) == {
        "first": {"weight": "made"}, "fc": {"weight": "fc.weight", "bias": "fc.bias"},
        "right": {"weight": "right.weight"}, "left": {"weight": "left.weight"},
    }  # fmt: skip
    layers = {layer.name: layer for layer in graph.layers()}
    assert layers["fc"].config["transB"] == 1
    assert layers["fc"].config["input"] == ["a", "fc.weight"]
    assert layers["tied"].config["input"] == ["c", "fc.weight"]  # the same tensor, not turned
    assert "transB" not in layers["tied"].config
    assert layers["adds"].inputs == ("fc",)
    assert (layers["adds"].unit, layers["tied"].unit, layers["fc"].unit) == ("fc", "fc", "")
    assert layers["y"].inputs == ("choice",)


def test_integers_with_a_scale_are_the_numbers_they_stand_for(read):
    expected = np.load(FILES / "quantised.npz")
    graph = read("quantised")
    assert units(graph) == {
        "fc": {"weight": "fc.weight_q"}, "second": {"weight": "w4"}, "third": {"weight": "integers"},
    }  # fmt: skip
    loaded = {tensor.unit: tensor.load().numpy() for tensor in graph.tensors()}
    assert loaded["fc"].tobytes() == expected["w"].tobytes()
    assert loaded["second"].tobytes() == expected["v"].tobytes()
    assert loaded["third"].dtype == np.uint8
    assert graph.dropped["fc.scale"] == "quantisation"
    stored, integers = graph.notes()
    assert stored.startswith("2 weights are stored as integers")
    assert integers.startswith("Weights of MatMulInteger are integers, which no module of floats has")


def tensor(name, *shape, kind=1):
    count = int(np.prod(shape)) * 4
    return b"".join(number(1, size) for size in shape) + number(2, kind) + block(8, name) + block(9, bytes(count))


def node(kind, inputs, outputs, *attributes, name=""):
    texts = b"".join(block(1, text) for text in inputs) + b"".join(block(2, text) for text in outputs)
    return block(1, texts + block(3, name) + block(4, kind) + b"".join(block(5, a) for a in attributes))


@pytest.fixture
def built(tmp_path):
    def call(data):
        (tmp_path / "a.onnx").write_bytes(data)
        with WeightFile(tmp_path / "a.onnx") as file:
            graph = Graph(file)
            graph.add(Wire(file).message(), "")
            graph.tensors()
            return graph

    return call


X = block(11, block(1, "x"))


def test_names_that_nodes_do_not_have_are_derived(built):
    graph = built(X + block(5, tensor("w", 2, 2)) + block(5, tensor("v", 2, 2)) + node("MatMul", "xw", "a")
                  + node("MatMul", "av", "b", name="x"))  # fmt: skip
    assert [layer.name for layer in graph.layers()] == ["x", "MatMul_0", "x_2"]


def test_tensors_of_nodes_that_share_a_unit_are_told_apart_by_their_names(built):
    data = X + b"".join(block(5, tensor(name, 2, 2)) for name in ("c.weight_ih", "c.weight_hh"))
    graph = built(data + node("MatMul", ["x", "c.weight_ih"], "a") + node("MatMul", ["a", "c.weight_hh"], "b"))
    assert {tensor.leaf for tensor in graph.tensors()} == {"weight_ih", "weight_hh"}
    assert {tensor.unit for tensor in graph.tensors()} == {"c"}
    assert [layer.name for layer in graph.layers()] == ["x", "c", "MatMul_1"]


@pytest.mark.parametrize(
    "data",
    [
        X + node("Relu", ["y"], ["z"]),  # of nothing
        X + node("Relu", ["b"], ["a"]) + node("Relu", ["a"], ["b"]),  # a cycle
        X + block(5, tensor("w", 2)) + block(5, tensor("w", 2)),
        X + block(5, tensor("q", 2, 2, kind=6)) + block(5, tensor("s", 3))
        + node("DequantizeLinear", "qs", "w") + node("MatMul", "xw", "y"),
        X + block(5, tensor("q", 2, 2, kind=6)) + block(5, tensor("s", 2)) + block(5, tensor("z", 1, kind=6))
        + node("DequantizeLinear", "qsz", "w") + node("MatMul", "xw", "y"),
    ],
)  # fmt: skip
def test_damaged_graphs_are_refused(built, data):
    with pytest.raises(PortError, match="damaged"):
        built(data)


def test_attributes_of_other_types_are_no_faults_of_ours(built):
    odd = block(1, "perm") + number(20, 1)  # a float where a list belongs
    graph = built(X + block(5, tensor("w", 2, 2)) + node("Transpose", "w", "t", odd) + node("MatMul", "xt", "y"))
    assert [layer.kind for layer in graph.layers()] == ["Input", "Transpose", "MatMul"]
    axis = block(1, "axis") + number(3, -9)
    data = (
        X + block(5, tensor("q", 2, 2, kind=6)) + block(5, tensor("s", 2)) + node("DequantizeLinear", "qs", "w", axis)
    )
    with pytest.raises(PortError, match="damaged"):
        built(data + node("MatMul", "xw", "y"))
    with pytest.raises(PortError, match="damaged"):
        built(X + node("Relu", "x", "y", block(1, "constants") + number(3, 1)))


def test_what_is_not_read_is_refused(built):
    with pytest.raises(PortError, match="contains sparse tensors"):
        built(block(15, b""))
    with pytest.raises(PortError, match="tensors of an unsupported dtype") as caught:
        built(
            X + block(5, number(1, 4) + number(2, 18) + block(8, "w") + block(9, bytes(4))) + node("MatMul", "xw", "y")
        )
    assert caught.value.received == "'w' with the ONNX dtype 18"


def test_graphs_inside_of_graphs_are_bounded(built):
    inner = b""
    for _ in range(40):
        inner = node("If", "x", "y", block(1, "then") + block(6, inner))
    with pytest.raises(PortError, match="nested more than 64 levels deep"):
        built(X + inner)


def test_graphs_inside_of_nodes_have_names_of_their_own(built):
    def branch(kind):
        return block(6, block(5, tensor("w", 2, 2)) + node(kind, "xw", "y") + block(12, block(1, "y")))

    attributes = [block(1, name) + branch(kind) for name, kind in (("then", "MatMul"), ("else", "PRelu"))]
    graph = built(X + node("If", "x", "z", *attributes, name="if"))
    assert [(tensor.name, tensor.unit, tensor.leaf) for tensor in graph.tensors()] == [
        ("w", "if/then/MatMul_0", "weight"), ("if/else/w", "if/else/PRelu_0", "slope"),
    ]  # fmt: skip
    assert [(layer.name, layer.inputs) for layer in graph.layers()] == [
        ("x", ()), ("if/then/MatMul_0", ("x",)), ("if/then/y", ("if/then/MatMul_0",)), ("if/else/PRelu_0", ("x",)),
        ("if/else/y", ("if/else/PRelu_0",)), ("if", ("x",)),
    ]  # fmt: skip


def test_a_state_of_zeros_is_no_weight(built):
    data = X + b"".join(block(5, tensor(name, 1, 3, 2)) for name in ("w", "r", "h"))
    graph = built(data + node("LSTM", ["x", "w", "r", "", "", "h", "h"], ["y"]))
    assert [tensor.leaf for tensor in graph.tensors()] == ["W", "R"]
    assert graph.dropped == {"h": "constant of the graph"}


def test_a_bias_is_found_behind_the_rounding_of_a_product(built):
    graph = built(
        block(5, tensor("w", 2, 2)) + block(5, tensor("b", 2)) + block(5, tensor("s")) + block(11, block(1, "x"))
        + node("MatMul", ["x", "w"], ["p"], name="fc") + node("QuantizeLinear", ["p", "s"], ["q"])
        + node("DequantizeLinear", ["q", "s"], ["r"]) + node("Add", ["r", "b"], ["y"])
    )  # fmt: skip
    assert {one.name: (one.unit, one.leaf) for one in graph.tensors()} == {"w": ("fc", "weight"), "b": ("fc", "bias")}
