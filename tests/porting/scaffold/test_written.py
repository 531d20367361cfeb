import importlib.util
import sys

import numpy as np
import pytest
from onnx import helper, numpy_helper
from torch import nn

import frostline as fl
from frostline.porting.readers.formats import open_source
from frostline.porting.scaffold.module_text import module_text
from frostline.porting.scaffold.written import NOTE, keeps_axes


@pytest.fixture
def model_of(tmp_path):
    """A module of a text of Python."""
    names = []

    def build(text, name):
        (tmp_path / f"{name}.py").write_text(text)
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        names.append(name)
        spec.loader.exec_module(module)
        return module.Network()

    yield build
    for name in names:
        del sys.modules[name]


@pytest.fixture
def spectrum(tmp_path):
    """Real and imaginary parts of a spectrum by a convolution, for a signal of open length: nothing can be run."""
    random = np.random.default_rng(0)
    tensors = {"w": random.standard_normal((10, 1, 8)), "m": random.standard_normal((5, 3)), "cut": [0, 2, 5, -1]}
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], name="dft", strides=[4]),
             helper.make_node("Reshape", ["a", "cut"], ["b"]),
             helper.make_node("Mul", ["b", "b"], ["s"]), helper.make_node("ReduceSum", ["s", "one"], ["p"], keepdims=0),
             helper.make_node("Transpose", ["p"], ["t"], perm=[0, 2, 1]),
             helper.make_node("MatMul", ["t", "m"], ["y"], name="mel")]  # fmt: skip
    kept = [numpy_helper.from_array(np.asarray(one, "f4" if name in "wm" else "i8"), name)
            for name, one in (tensors | {"one": [1]}).items()]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ("B", 1, "N"))],
                              [helper.make_tensor_value_info("y", 1, None)], kept)  # fmt: skip
    path = tmp_path / "m.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    with open_source(path) as (source, _):
        text = module_text(source, str(path))
    return path, text, tensors


def test_a_module_that_was_written_for_the_file_keeps_its_axes(spectrum, model_of):
    path, text, tensors = spectrum
    model = model_of(text, "own_network")
    certificate = fl.port(path, model)
    assert NOTE in certificate.notes
    assert np.array_equal(model.dft.weight.detach().numpy(), tensors["w"].astype("f4"))
    laid_out = model_of(text.replace("(x)", "(\n            x,\n        )"), "laid_out")
    with open_source(path) as (source, _):
        assert keeps_axes(source, str(path), laid_out)


def test_a_module_that_was_changed_is_told_by_its_values_alone(spectrum, model_of):
    path, text, _ = spectrum
    changed = text.replace("reshape(x.shape[0], 2, 5, -1)", "reshape(x.shape[0], 5, 2, -1)").replace("sum(1)", "sum(2)")
    assert changed != text
    with pytest.raises(fl.PortError, match="The layout of the weights of 'dft' in the file is ambiguous"):
        fl.port(path, model_of(changed, "changed_network"))


def test_other_modules_are_not_looked_at(spectrum):
    path, text, _ = spectrum
    assert "written by Frostline" in text
    with open_source(path) as (source, _):
        assert not keeps_axes(source, str(path), nn.Conv1d(1, 10, 8))
