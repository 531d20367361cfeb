"""Write `tests/porting/files/scaffold/functions.npz`: functions and branches, as ONNX Runtime runs them.

Needs onnx==1.23.2 and onnxruntime==1.32.0 (`pip install onnx onnxruntime`).
Run: `python tests/porting/make/onnx_functions.py` from the root of the repository.
An entry `NAME` is the file; `NAME:0` and so on are its inputs, `NAME:out0` and so on its outputs.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import numpy_helper, parser

OUT = Path(__file__).parents[1] / "files" / "scaffold" / "functions.npz"
_HEAD = '<ir_version: 10, opset_import: ["": 17, "own": 1]>'
_BLOCK = """
    <domain: "own", opset_import: ["": 17]>
    Block <alpha>(x, w, b) => (y) {
        a = MatMul(x, w)
        c = Add(a, b)
        y = LeakyRelu <alpha: float = @alpha>(c)
    }"""
_TWICE = """
    <domain: "own", opset_import: ["": 17, "own": 1]>
    Twice (x, w, b, v, c) => (y) {
        a = own.Block <alpha: float = 0.3>(x, w, b)
        y = own.Block <alpha: float = 0.1>(a, v, c)
    }"""
_WEIGHTS = {"one.weight": (4, 4), "one.bias": (4,), "two.weight": (4, 3), "two.bias": (3,)}
# The graph, the functions, and which branch an `If` takes.
CASES = {
    "called": ("a = own.Block <alpha: float = 0.3>(x, one_w, one_b) "
               "y = own.Block <alpha: float = 0.1>(a, two_w, two_b)",
               _BLOCK, True),
    "nested": ("y = own.Twice(x, one_w, one_b, two_w, two_b)", _BLOCK + _TWICE, True),
    "then": ("c = MatMul(x, one_w) d = Add(c, one_b) a = If (cond) <"
             "then_branch = g () => (float[N, 4] t) { q = Relu(d) t = Neg(q) },"
             "else_branch = h () => (float[N, 4] t) { t = Tanh(d) } > "
             "e = MatMul(a, two_w) y = Add(e, two_b)", "", True),
    "else": ("c = MatMul(x, one_w) d = Add(c, one_b) a = If (cond) <"
             "then_branch = g () => (float[N, 4] t) { q = Relu(d) t = Neg(q) },"
             "else_branch = h () => (float[N, 4] t) { t = Tanh(d) } > "
             "e = MatMul(a, two_w) y = Add(e, two_b)", "", False),
    "branch_in_branch": ("c = MatMul(x, one_w) d = Add(c, one_b) a = If (cond) <"
             "then_branch = g () => (float[N, 4] t) { q = Relu(d) t = If (cond) <"
             "then_branch = i () => (float[N, 4] s) { s = Sigmoid(q) },"
             "else_branch = j () => (float[N, 4] s) { s = Tanh(q) } > },"
             "else_branch = h () => (float[N, 4] t) { t = Identity(d) } > "
             "e = MatMul(a, two_w) y = Add(e, two_b)", "", True),
}  # fmt: skip


def built(nodes, functions, condition):
    """The model of a case."""
    names = {"one_w": "one.weight", "one_b": "one.bias", "two_w": "two.weight", "two_b": "two.bias"}
    model = parser.parse_model(f"{_HEAD} agraph (float[N, 4] x) => (float[N, 3] y) {{ {nodes} }} {functions}")
    random = np.random.default_rng(0)
    for node in model.graph.node:
        node.input[:] = [names.get(one, one) for one in node.input]
    for name, shape in _WEIGHTS.items():
        model.graph.initializer.append(numpy_helper.from_array(random.standard_normal(shape).astype("f4"), name))
    if "cond" in nodes:
        model.graph.initializer.append(numpy_helper.from_array(np.array(condition), "cond"))
    return model


def main():
    """Write the file."""
    arrays = {}
    x = np.random.default_rng(1).standard_normal((5, 4)).astype("f4")
    for name, case in CASES.items():
        data = built(*case).SerializeToString()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        arrays[name] = np.frombuffer(data, np.uint8)
        arrays |= {f"{name}:0": x, f"{name}:out0": session.run(None, {"x": x})[0]}
    np.savez_compressed(OUT, **arrays)


if __name__ == "__main__":
    main()
