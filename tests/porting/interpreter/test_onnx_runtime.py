from pathlib import Path

import pytest
import torch

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
        assert inputs[0].shape == (3, 7, 6)
        assert outputs[0].shape[0] == 3
        assert torch.equal(inputs[0], again[0])
        with pytest.raises(NotInterpretedError, match="ONNX Runtime refuses it"):
            onnx_runtime.run(source, "missing.onnx")
