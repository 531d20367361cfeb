import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.onnx import read
from frostline.porting.readers.onnx_functions import Call
from frostline.porting.readers.weight_file import WeightFile
from helpers_onnx_operators import error, stored
from helpers_porting_wire import block, number

CASES = [name for name in stored("functions") if ":" not in name]


def text(field, value):
    return block(field, value)


def node(kind, inputs, outputs, domain="", attributes=b""):
    return block(1, b"".join([*(text(1, one) for one in inputs), *(text(2, one) for one in outputs), text(4, kind),
                              text(7, domain), attributes]))  # fmt: skip


def function(name, *nodes, inputs=("x",), outputs=("y",), more=b""):
    body = b"".join(one.replace(b"\x0a", b"\x3a", 1) for one in nodes)  # field 1 of a graph is field 7 of a function
    ends = b"".join([*(text(4, one) for one in inputs), *(text(5, one) for one in outputs)])
    return block(25, text(1, name) + ends + body + text(10, "own") + more)


def model(*nodes, functions=b""):
    value = block(11, text(1, "x"))
    return number(1, 8) + block(8, text(1, "") + number(2, 17)) + block(7, b"".join(nodes) + value) + functions


def layers(path, data):
    path.write_bytes(data)
    with WeightFile(path) as file:
        return read(file)


@pytest.mark.parametrize("name", CASES)
def test_functions_and_known_branches_give_what_onnx_runtime_gives(name, tmp_path):
    assert error(name, tmp_path, "functions") <= 1e-6


def test_weights_keep_their_names_and_nodes_say_where_they_stand(tmp_path):
    source = layers(tmp_path / "a.onnx", stored("functions")["nested"].tobytes())
    assert [one.name for one in source.tensors] == ["one.weight", "one.bias", "two.weight", "two.bias"]
    assert [one.kind for one in source.layers if one.kind not in ("Input", "Output")] == [
        "MatMul", "Add", "LeakyRelu", "MatMul", "Add", "LeakyRelu",
    ]  # fmt: skip
    assert not source.notes
    slopes = [one.config["alpha"] for one in source.layers if one.kind == "LeakyRelu"]
    assert np.allclose(slopes, [0.3, 0.1])


def test_functions_that_call_each_other_without_end_are_damaged(tmp_path):
    twice = (node("Loop", ["x"], ["a"], "own"), node("Loop", ["a"], ["y"], "own"))
    data = model(node("Loop", ["x"], ["z"], "own"), functions=function("Loop", *twice))
    with pytest.raises(PortError) as caught:
        layers(tmp_path / "a.onnx", data)
    assert "functions that call each other recursively or too often, such as 'Loop'" in caught.value.received


def test_functions_that_multiply_are_damaged(tmp_path):
    parts = [function("F0", node("Relu", ["x"], ["y"]))]
    for level in range(1, 25):
        inner = f"F{level - 1}"
        parts.append(function(f"F{level}", node(inner, ["x"], ["a"], "own"), node(inner, ["a"], ["y"], "own")))
    with pytest.raises(PortError) as caught:
        layers(tmp_path / "a.onnx", model(node("F24", ["x"], ["z"], "own"), functions=b"".join(parts)))
    assert "recursively or too often" in caught.value.received


def test_a_function_of_another_version_of_operators_is_left_as_it_is(tmp_path):
    other = function("Old", node("Relu", ["x"], ["y"]), more=block(9, text(1, "") + number(2, 9)))
    source = layers(tmp_path / "a.onnx", model(node("Old", ["x"], ["z"], "own"), functions=other))
    assert [one.kind for one in source.layers] == ["Input", "Old"]
    assert source.notes == ("These functions of the file were not inlined: Old.",)


def test_inputs_that_are_left_out_stay_empty(tmp_path):
    clip = function("Cut", node("Clip", ["x", "low", "high"], ["y"]), inputs=("x", "low", "high"))
    source = layers(tmp_path / "a.onnx", model(node("Cut", ["x"], ["z"], "own"), functions=clip))
    assert source.layers[-1].config["input"] == ["x", "", ""]
    assert source.layers[-1].config["output"] == ["z"]


def test_a_branch_that_is_not_known_stays_a_node(tmp_path):
    branch = block(5, text(1, "then_branch") + block(6, node("Relu", ["x"], ["t"]) + block(12, text(1, "t"))))
    source = layers(tmp_path / "a.onnx", model(node("If", ["x"], ["z"], attributes=branch)))
    assert [one.kind for one in source.layers] == ["Input", "Relu", "Output", "If"]


def test_values_of_a_call_get_the_names_that_they_are_given():
    call = Call("Add", "", "", ("a", "b"), ("c",), ())
    assert call.renamed({"a": "x", "c": "y"}) == Call("Add", "", "", ("x", "b"), ("y",), ())
    assert not call.has_graphs
