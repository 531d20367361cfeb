"""Write the ONNX files of `tests/porting/files/onnx`.

Needs torch==2.13.0, onnx==1.23.2 and onnxscript==0.7.2 (`pip install torch onnx onnxscript`).
Run: `python tests/porting/make/with_onnx.py` from the root of the repository.
Beside each file lies a `.npz` with every initializer as the onnx package reads it (bfloat16 and float8 as bits).
"""

import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data
from torch import nn

OUT = Path(__file__).parents[1] / "files" / "onnx"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Net(nn.Module):
    """A folded BatchNorm, a free one, a product of matrices, a recurrent layer, an embedding, a norm."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.BatchNorm2d(2), Block())
        self.proj = nn.Linear(4, 5)
        self.lstm = nn.LSTM(5, 3, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(6, 3, batch_first=True)
        self.table = nn.Embedding(7, 3)
        self.norm = nn.LayerNorm(3)
        self.act = nn.PReLU(3)
        self.scale = nn.Parameter(torch.ones(3) * 0.5)
        self.head = nn.Linear(3, 2)

    def forward(self, x, tokens):
        x = self.features(x).flatten(2).transpose(1, 2)
        x, _ = self.lstm(self.proj(x))
        x, _ = self.gru(x)
        x = self.norm(x + self.table(tokens)) * self.scale
        return self.head(self.act(x.mean(1)))


def network():
    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net


def expected(model, name):
    arrays = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor, base_dir=str(OUT))
        arrays[tensor.name] = array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")
    np.savez_compressed(OUT / f"{name}.npz", **arrays)


def from_torch():
    inputs = (torch.randn(1, 2, 4, 4), torch.zeros(1, 4, dtype=torch.int64))
    state = {name: value.numpy() for name, value in network().state_dict().items()}
    np.savez_compressed(OUT / "state.npz", **state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network(), inputs, str(OUT / "torchscript.onnx"), dynamo=False)
        torch.onnx.export(
            network(), inputs, str(OUT / "exported.onnx"), dynamo=True, external_data=False, verbose=False
        )
    for name in ("torchscript", "exported"):
        expected(without_traces(name), name)


def without_traces(name):
    model = onnx.load(OUT / f"{name}.onnx")
    for node in model.graph.node:  # stack traces of this machine
        del node.metadata_props[:]
    for value in model.graph.value_info:
        del value.metadata_props[:]
    onnx.save(model, OUT / f"{name}.onnx")
    return model


def half_folded():
    """An LSTM with one weight of more than 8,192 elements: the exporter puts the gates of the others in order."""
    torch.manual_seed(0)
    net = nn.LSTM(1030, 2, batch_first=True).eval()
    x = torch.randn(2, 3, 1030)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (x,), str(OUT / "half_folded.onnx"), dynamo=True, external_data=False, verbose=False
        )  # fmt: skip
    without_traces("half_folded")
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    np.savez_compressed(OUT / "half_folded.npz", **state)


def model(nodes, initializers, inputs=(("x", (1, 2)),), outputs=(("y", (1, 2)),)):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs], initializers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def dtypes():
    """Each dtype once in raw bytes, once in the fields for values."""
    kinds = {
        "float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "half": TensorProto.FLOAT16,
        "bfloat": TensorProto.BFLOAT16, "e4m3": TensorProto.FLOAT8E4M3FN, "e5m2": TensorProto.FLOAT8E5M2,
        "int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16, "uint16": TensorProto.UINT16,
        "int32": TensorProto.INT32, "uint32": TensorProto.UINT32, "int64": TensorProto.INT64,
        "uint64": TensorProto.UINT64, "bool": TensorProto.BOOL, "complex": TensorProto.COMPLEX64,
    }  # fmt: skip
    values = [1, 0, 2, 1] * 20
    initializers = []
    for name, kind in kinds.items():
        typed = helper.make_tensor(f"{name}_typed", kind, (4, 20), values)
        raw = numpy_helper.from_array(numpy_helper.to_array(typed), f"{name}_raw")
        initializers += [typed, raw]
    nodes = [helper.make_node("Add", ["x", t.name], [f"y_{t.name}"]) for t in initializers]
    built = model(nodes, initializers, outputs=[(node.output[0], (4, 20)) for node in nodes])
    onnx.save(built, OUT / "dtypes.onnx")
    expected(built, "dtypes")


def external():
    """Tensors in files beside the model, and in a folder below it."""
    rng = np.random.default_rng(0)
    initializers = [
        numpy_helper.from_array(rng.normal(size=(2, 2)).astype("f4"), name) for name in ("a.weight", "b.weight")
    ]
    nodes = [helper.make_node("MatMul", ["x", "a.weight"], ["h"]), helper.make_node("MatMul", ["h", "b.weight"], ["y"])]
    for name, location in (("beside", "beside.data"), ("below", "parts/below.data")):
        built = model(nodes, initializers)
        (OUT / "parts").mkdir(exist_ok=True)
        convert_model_to_external_data(built, location=location, size_threshold=0)
        onnx.save(built, OUT / f"{name}.onnx")
        expected(onnx.load(OUT / f"{name}.onnx"), name)


def quantised():
    """Weights as integers: with a scale for each channel, in four bits, and for operators of integers."""
    rng = np.random.default_rng(0)
    initializers = [
        numpy_helper.from_array(rng.integers(-128, 128, (2, 3)).astype("i1"), "fc.weight_q"),
        numpy_helper.from_array(rng.uniform(0.1, 1, 3).astype("f4"), "fc.scale"),
        numpy_helper.from_array(rng.integers(-5, 5, 3).astype("i1"), "fc.zero"),
        helper.make_tensor("w4", TensorProto.INT4, (3, 3), rng.integers(-8, 8, 9)),
        numpy_helper.from_array(np.array(0.25, "f4"), "scale4"),
        numpy_helper.from_array(rng.integers(0, 255, (3, 2)).astype("u1"), "integers"),
        numpy_helper.from_array(np.array(128, "u1"), "zero"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["fc.weight_q", "fc.scale", "fc.zero"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["h"], name="fc"),
        helper.make_node("DequantizeLinear", ["w4", "scale4"], ["v"]),
        helper.make_node("MatMul", ["h", "v"], ["i"], name="second"),
        helper.make_node("DynamicQuantizeLinear", ["i"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "integers", "z", "zero"], ["y"], name="third"),
    ]
    built = model(nodes, initializers)
    onnx.save(built, OUT / "quantised.onnx")
    from onnx.reference import ReferenceEvaluator

    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("w", "v")]
    graph = helper.make_graph([nodes[0], nodes[2]], "g", [], outputs, initializers)
    w, v = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])).run(None, {})
    np.savez_compressed(OUT / "quantised.npz", w=w, v=v)


def nested():
    """Constants in nodes, graphs in nodes, a weight that goes through a Transpose, a bias in an Add, a tied table."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(2, 2)).astype("f4"), "fc.weight")
    bias = numpy_helper.from_array(rng.normal(size=2).astype("f4"), "fc.bias")
    constant = numpy_helper.from_array(rng.normal(size=(2, 2)).astype("f4"))
    info = [helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, 2))]
    branches = [
        helper.make_graph([helper.make_node("Gemm", ["h", f"{side}.weight"], ["out"], transB=1)], side, [], info,
                          [numpy_helper.from_array(rng.normal(size=(2, 2)).astype("f4"), f"{side}.weight")])
        for side in ("left", "right")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["made"], value=constant),
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("MatMul", ["x", "made"], ["a"], name="first"),
        helper.make_node("Transpose", ["fc.weight"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["a", "turned"], ["b"], name="second"),
        helper.make_node("Add", ["fc.bias", "b"], ["c"], name="adds"),
        helper.make_node("Identity", ["fc.weight"], ["same"]),
        helper.make_node("MatMul", ["c", "same"], ["d"], name="tied"),
        helper.make_node("Mul", ["d", "half"], ["h"]),
        helper.make_node("If", ["flag"], ["y"], name="choice", then_branch=branches[0], else_branch=branches[1]),
    ]
    built = model(nodes, [weight, bias])
    built.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, ()))
    onnx.checker.check_model(built)
    onnx.save(built, OUT / "nested.onnx")
    expected(built, "nested")


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for write in (from_torch, half_folded, dtypes, external, quantised, nested):
        write()
