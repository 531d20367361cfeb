import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import frostline as fl
from exams.porting.stored import Stored
from frostline.porting.interpreter import onnx_runtime
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.readers.formats import open_source

FOLDER = Path(__file__).parents[1] / "files" / "networks" / "onnx"


def stored(name):
    return Stored("onnx", name, FOLDER / name)


def test_twins_are_told_apart_by_a_run_beside_the_file():
    certificate = fl.port(FOLDER / "twins" / "model.onnx", stored("twins").counterpart.build())
    assert certificate.runs[0].kind == "ONNX Runtime on random inputs"
    assert certificate.runs[0].alternatives > 1
    assert certificate.runs[0].error <= 1e-5


def test_a_module_that_computes_otherwise_is_refused():
    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = stored("square_dense").counterpart.build()

        def forward(self, x):
            return self.inner(x) + 1

    with pytest.raises(fl.PortError, match="does not compute what the source network does"):
        fl.port(FOLDER / "square_dense" / "model.onnx", Other())


def test_inputs_and_outputs_are_those_of_the_graph():
    with open_source(FOLDER / "lstm" / "model.onnx") as (source, _):
        inputs, outputs = onnx_runtime.run(source, str(FOLDER / "lstm" / "model.onnx"))
        again, _ = onnx_runtime.run(source, str(FOLDER / "lstm" / "model.onnx"))
        ((name, given),) = inputs.items()
        assert given.shape == (3, 7, 6)
        assert all(one.shape[0] == 3 for one in outputs.values())
        assert torch.equal(given, again[name])
        with pytest.raises(NotInterpretedError, match="ONNX Runtime refuses it"):
            onnx_runtime.run(source, "missing.onnx")


def two_layers(nodes, functions=(), **tensors):
    """A network of two Gemm nodes, from 'a' to 'r' what `nodes` compute."""
    weights = {"w1": np.ones((8, 4), "f4"), "w2": np.ones((2, 8), "f4")} | tensors
    first = helper.make_node("Gemm", ["x", "w1"], ["a"], transB=1)
    last = helper.make_node("Gemm", ["r", "w2"], ["y"], transB=1)
    graph = helper.make_graph(
        [first, *nodes, last], "g", [helper.make_tensor_value_info("x", 1, ("N", 4))],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(one, name) for name, one in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def loop(value, made):
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["v"], ["v2"])], "b",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, []),
         helper.make_tensor_value_info("v", 1, None)],
        [helper.make_tensor_value_info("c2", 9, []), helper.make_tensor_value_info("v2", 1, None)],
    )  # fmt: skip
    return helper.make_node("Loop", ["m", "t", value], [made], body=body)


def notes_of(model, folder):
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return " ".join(
        fl.port(folder / "m.onnx", nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 2, bias=False))).notes
    )


ENDLESS = {"m": np.array(2**62), "t": np.array(True)}


def test_a_graph_that_loops_is_not_run(tmp_path):
    assert "not run: the graph has a loop" in notes_of(two_layers([loop("a", "r")], **ENDLESS), tmp_path)


def test_a_function_of_the_file_that_loops_is_not_run(tmp_path):
    opsets = [helper.make_opsetid("", 17)]
    inside = helper.make_graph([loop("a", "z")], "g", [], [helper.make_tensor_value_info("z", 1, None)])
    held = helper.make_node("If", ["t"], ["r"], then_branch=inside, else_branch=inside)
    function = helper.make_function("own", "Endless", ["a", "m", "t"], ["r"], [held], opsets)
    model = two_layers([helper.make_node("Endless", ["a", "m", "t"], ["r"], domain="own")], [function], **ENDLESS)
    assert "not run: the graph has a loop" in notes_of(model, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit of memory")
def test_values_that_are_too_large_for_file_and_inputs_end_the_run(tmp_path):
    nodes = [
        helper.make_node("Expand", ["a", "big"], ["e"]),
        helper.make_node("ReduceMax", ["e"], ["r"], axes=[0], keepdims=0),
    ]
    notes = notes_of(two_layers(nodes, big=np.array([2**24, 1, 8])), tmp_path)
    assert "ONNX Runtime refuses it" in notes
    assert "allowed are 256 MB and 3 s" in notes


def test_products_that_go_on_and_on_end_the_run(tmp_path):
    nodes = [
        helper.make_node("ReduceSum", ["a"], ["s"], keepdims=0),
        helper.make_node("Expand", ["s", "square"], ["p0"]),
    ]
    nodes += [helper.make_node("MatMul", [f"p{at}"] * 2, [f"p{at + 1}"]) for at in range(200)]
    nodes += [helper.make_node("ReduceMax", ["p200"], ["z"], keepdims=0), helper.make_node("Add", ["a", "z"], ["r"])]
    assert "ended without outputs" in notes_of(two_layers(nodes, square=np.array([4_000, 4_000])), tmp_path)


def test_an_input_that_no_memory_holds_is_not_made(tmp_path):
    model = two_layers([helper.make_node("Relu", ["a"], ["r"])])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 10**10
    assert "the input 'x' has the shape [10000000000, 4]" in notes_of(model, tmp_path)
