from dataclasses import replace
from pathlib import Path

import pytest

import frostline as fl
from frostline.core.errors import PortError
from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from frostline.porting.readers.formats import open_source
from frostline.porting.scaffold.module_text import module_text
from frostline.porting.scaffold.onnx.network import write
from frostline.porting.scaffold.python_text import NotWrittenError
from helpers_onnx_operators import written
from helpers_scaffold import built

FILES = Path(__file__).parents[2] / "files"


@pytest.mark.parametrize("path", ["networks/onnx/lstm/model.onnx", "networks/onnx/twins/model.onnx"])
def test_a_file_becomes_a_module_that_the_port_fills(path, tmp_path):
    with open_source(FILES / path) as (source, _):
        text = write(source, path, "Network")
    certificate = fl.port(FILES / path, built(text, tmp_path))
    assert certificate.runs[0].error <= 1e-5
    assert {check.status for check in certificate.checks} <= {"agrees"}


def test_weights_of_no_layer_have_the_names_of_the_file(tmp_path):
    text = written("parameters", tmp_path)
    for line in (
        "self.block_norm_weight = nn.Parameter(torch.zeros(4))", "self.block_norm_bias = nn.Parameter(torch.zeros(4))",
        "self.gamma = nn.Parameter(torch.zeros(4))", "self.shift = nn.Parameter(torch.zeros(5, 4))",
    ):  # fmt: skip
        assert line in text


def test_the_docstring_says_what_it_takes(tmp_path):
    assert '"""Takes `x_` (3, 4); `u` (3, 4)."""' in written("two_in_two_out", tmp_path)
    assert '"""Takes `x` (3, 4) of whole numbers."""' in written("embedding", tmp_path)


def test_several_outputs(tmp_path):
    assert "-> tuple[Tensor, Tensor]:" in written("two_in_two_out", tmp_path)


def graph(*nodes, outputs=("y",)):
    made = [SourceLayer("x", "Input", {"output": ["x"], "shape": [None, 3], "dtype": "float32"})]
    made += [SourceLayer(name, kind, {"input": list(inputs), "output": list(given), **config})
             for name, kind, inputs, given, config in nodes]  # fmt: skip
    made += [SourceLayer(name, "Output", {"input": [name]}) for name in outputs]
    weight = SourceTensor("w", (3, 3), "float32", "w", "", lambda: None)
    return Source("ONNX", "onnx", (weight,), layers=tuple(made), opset=17)


def test_nothing_of_a_file_but_letters_and_numbers_comes_into_the_text():
    name = 'x"""\n    import os\n    """'
    source = graph((name, "Relu", ["x"], ["h"], {}), (name, "Add", ["x", "h"], ["y"], {}))
    text = write(source, f"/tmp/{name}", "Network")
    assert "import os" not in text
    compile(text, "module", "exec")


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (("a", "Loop", ["x"], ["y"], {}), r"'a' \(Loop\): a part of the graph"),
        (("a", "Hardmax", ["x"], ["y"], {}), "Hardmax"),
        (("a", "Gelu", ["x"], ["y"], {"domain": "com.microsoft"}), "com.microsoft.Gelu"),
        (("a", "Add", ["x", "lost"], ["y"], {}), "the constant 'lost' was not read"),
        (("a", "Relu", ["x"], ["z"], {}), "the output 'y', which no node computes"),
        (("a", "Transpose", ["x"], ["y"], {"perm": [5, 1]}), "perm"),
        (("a", "Concat", ["x"], ["y"], {"axis": "0"}), "axis"),
    ],
)  # fmt: skip
def test_what_is_not_written_is_named(node, why):
    with pytest.raises(NotWrittenError, match=why):
        write(graph(node), "file", "Network")


def test_a_graph_that_is_no_graph_is_refused():
    with pytest.raises(NotWrittenError, match="without a graph"):
        write(replace(graph(), layers=()), "file", "Network")


def test_numbers_whose_text_is_long_get_a_name():
    long = [("s", "Shape", ["x"], ["s"], {}), ("g", "Gather", ["s", "one"], ["n0"], {"constants": {"one": 1}})]
    long += [(f"a{at}", "Add", [f"n{at}", f"n{at}"], [f"n{at + 1}"], {}) for at in range(6)]
    source = graph(*long, ("u", "Unsqueeze", ["n6"], ["r"], {"axes": [0]}), ("e", "Reshape", ["x", "r"], ["y"], {}))
    text = write(source, "file", "Network")
    assert max(map(len, text.splitlines()[12:])) < 110


@pytest.mark.parametrize(("kind", "text", "remedy"), [
    ("Loop", "again and again", "use LSTM, GRU or RNN"), ("Scan", "again and again", "torch.onnx.export"),
    ("If", "runs on a condition", "onnxsim"), ("QLinearConv", "it computes in integers", "before quantisation"),
    ("DynamicQuantizeLinear", "it computes in integers", "before quantisation"),
])  # fmt: skip
def test_what_is_refused_says_what_to_do_instead(kind, text, remedy):
    layers = (
        SourceLayer("x", "Input", {"output": ["x"], "shape": [1, 3], "dtype": "float32"}),
        SourceLayer("one", kind, {"input": ["x"], "output": ["y"]}, ("x",)),
        SourceLayer("y", "Output", {"input": ["y"], "output": []}, ("one",)),
    )
    source = Source("ONNX", "onnx", (), "graph", layers)
    with pytest.raises(PortError) as caught:
        module_text(source, "file")
    assert text in caught.value.received
    assert remedy in caught.value.do


@pytest.mark.parametrize("dtype", ["uint16", "other than numbers"])
def test_inputs_that_pytorch_does_not_compute_with_are_refused(dtype):
    layers = (
        SourceLayer("x", "Input", {"output": ["x"], "shape": [1, 3], "dtype": dtype}),
        SourceLayer("y", "Output", {"input": ["x"], "output": []}, ("x",)),
    )
    with pytest.raises(PortError) as caught:
        module_text(Source("ONNX", "onnx", (), "graph", layers), "file")
    assert f"the input 'x' in the dtype {dtype}" in caught.value.received
