"""Networks written as ONNX graphs, with golden outputs of ONNX Runtime.

Run by `exams.porting.build` in the environment `onnx`: python from_onnx.py FOLDER [CASE ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from golden import Folder, chosen, images, seeded, tokens
from onnx import TensorProto
from onnx_graph import Graph
from onnx_names import lying, renamed


def conv2d(g: Graph) -> str:
    """Two convolutions, and dense layers after the flattening of channels first."""
    x = g.node("Relu", g.conv(g.input("image", 3, 12, 12), "edges", 3, 8, 3, 3))
    x = g.node("Relu", g.conv(x, "shapes", 8, 8, 3, 3, strides=(2, 2)))
    x = g.node("Relu", g.gemm(g.node("Flatten", x), "hidden", 128, 8))
    return g.dense(x, "scores", 8, 8)


def same_padding(g: Graph) -> str:
    """`SAME_UPPER` with stride 2 in convolutions and pools."""
    same = {"auto_pad": "SAME_UPPER", "strides": (2, 2)}
    x = g.node("Relu", g.conv(g.input("image", 3, 30, 30), "stem", 3, 6, 3, 3, **same))
    x = g.node("MaxPool", x, kernel_shape=(3, 3), **same)
    x = g.node("Relu", g.conv(x, "body", 6, 6, 5, 5, **same))
    x = g.node("AveragePool", x, kernel_shape=(3, 3), **same)
    return g.conv(x, "map", 6, 4, 1, 1)


def same_lower(g: Graph) -> str:
    """`SAME_LOWER`: the odd row stands before the image."""
    x = g.conv(g.input("image", 3, 16, 16), "first", 3, 6, 3, 3, auto_pad="SAME_LOWER", strides=(2, 2))
    x = g.conv(g.node("Relu", x), "second", 6, 6, 4, 4, auto_pad="SAME_LOWER", strides=(1, 1))
    return g.conv(g.node("Relu", x), "third", 6, 6, 3, 3, auto_pad="SAME_LOWER", strides=(2, 2))


def lstm(g: Graph) -> str:
    """Two LSTM nodes, gates in the order i, o, f, c; the last step goes on."""
    x = g.recurrent(g.input("steps", 7, 6), "lower", "LSTM", 6, 6)
    x = g.recurrent(x, "upper", "LSTM", 6, 6)
    x = g.node("Gather", x, g.constant(6), axis=1)
    return g.gemm(x, "out", 6, 3)


def gru(g: Graph) -> str:
    """A GRU with `linear_before_reset`, as PyTorch has it."""
    x = g.recurrent(g.input("steps", 7, 5), "recurrent", "GRU", 5, 6, linear_before_reset=1)
    return g.dense(x, "out", 6, 3)


def gru_reset_before(g: Graph) -> str:
    """A GRU without `linear_before_reset`, which `nn.GRU` cannot represent."""
    x = g.recurrent(g.input("steps", 7, 5), "recurrent", "GRU", 5, 6, linear_before_reset=0)
    return g.gemm(g.node("Gather", x, g.constant(6), axis=1), "out", 6, 3)


def bidirectional(g: Graph) -> str:
    """Both directions in one node: LSTM, then GRU."""
    x = g.recurrent(g.input("steps", 7, 6), "both_lstm", "LSTM", 6, 3, 2)
    x = g.recurrent(x, "both_gru", "GRU", 6, 3, 2, linear_before_reset=1)
    return g.dense(x, "out", 6, 6)


def square_dense(g: Graph) -> str:
    """Square dense layers, as products and as Gemm of both kinds."""
    x = g.node("Relu", g.dense(g.input("x", 8), "square_0", 8, 8))
    x = g.node("Tanh", g.gemm(x, "square_1", 8, 8))
    x = g.node("Gemm", x, g.weight("square_2/kernel", 8, 8), g.weight("square_2/bias", 8), transB=0)
    return g.dense(g.node("Sigmoid", x), "square_3", 8, 8)


def constants(g: Graph) -> str:
    """The twins of `twins`, with every weight in a `Constant` node."""
    g.constants = True
    return twins(g)


def twins(g: Graph) -> str:
    """Two branches of equal shapes."""
    start, ends = g.input("image", 3, 10, 10), []
    for side in ("photo", "sketch"):
        x = g.node("Relu", g.conv(start, f"{side}_a", 3, 6, 3, 3))
        x = g.node("Relu", g.conv(x, f"{side}_b", 6, 6, 3, 3))
        ends.append(g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), f"{side}_c", 6, 6))
    return g.node("Sub", *ends)


def external_data(g: Graph) -> str:
    """Weights in a second file."""
    x = g.node("Relu", g.conv(g.input("image", 3, 32, 32), "low", 3, 16, 5, 5, pads=(2, 2, 2, 2), strides=(2, 2)))
    x = g.node("Relu", g.norm(g.conv(x, "high", 16, 16, 3, 3), "high_norm", 16, 1e-3))
    return g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), "scores", 16, 5)


def batchnorm(g: Graph) -> str:
    """BatchNorm with other epsilons, not folded."""
    x = g.input("image", 3, 8, 8)
    for index, epsilon in enumerate((1e-3, 1e-5, 1e-4, 1e-2)):
        x = g.conv(x, f"conv_{index}", 3 if index == 0 else 6, 6, 3, 3, pads=(1, 1, 1, 1))
        x = g.node("Relu", g.norm(x, f"norm_{index}", 6, epsilon))
    return g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), "scores", 6, 4)


def transposed(g: Graph) -> str:
    """Transposed convolutions: grown, padded, cropped, grouped."""
    x = g.input("map", 4, 5, 5)
    x = g.transposed(x, "up_a", 4, 4, 3, strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1))
    x = g.transposed(g.node("Relu", x), "up_b", 4, 4, 4, strides=(2, 2), pads=(1, 1, 1, 1))
    return g.conv(g.node("Relu", x), "draw", 4, 2, 3, 3, pads=(1, 1, 1, 1))


def embeddings(g: Graph) -> str:
    """Tables read by `Gather`, LayerNorm, and a dense layer."""
    words = g.node("Gather", g.weight("word/weight", 16, 8), g.input("words", 6, kind=TensorProto.INT64))
    kinds = g.node("Gather", g.weight("kind/weight", 8, 8), g.input("kinds", 6, kind=TensorProto.INT64))
    x = g.layer_norm(g.node("Add", words, kinds), "norm", 8, 1e-3)
    return g.dense(g.node("ReduceMean", x, axes=(1,), keepdims=0), "out", 8, 8)


def depthwise(g: Graph) -> str:
    """Depthwise convolutions with multiplier 1 and 2."""
    x = g.conv(g.input("image", 4, 10, 10), "single", 4, 4, 3, 3, groups=4, pads=(1, 1, 1, 1))
    x = g.conv(g.node("Relu", x), "double", 4, 8, 3, 3, groups=4)
    return g.conv(g.node("Relu", x), "mix", 8, 4, 1, 1)


def prelu(g: Graph) -> str:
    """PReLU with slopes of (C, 1, 1), and LeakyReLU."""
    x = g.conv(g.input("image", 3, 8, 8), "conv_a", 3, 6, 3, 3)
    x = g.node("PRelu", x, g.weight("slope_a/alpha", 6, 1, 1))
    x = g.node("PRelu", g.conv(x, "conv_b", 6, 6, 3, 3), g.weight("slope_b/alpha", 6, 1, 1))
    x = g.gemm(g.node("Flatten", g.node("GlobalMaxPool", x)), "out", 6, 4)
    return g.node("LeakyRelu", x, alpha=0.3)


def heads(g: Graph, x: str) -> str:
    """(batch, tokens, 8) to (batch, 2 heads, tokens, 4)."""
    return g.node("Transpose", g.node("Reshape", x, g.constant([0, 0, 2, 4])), perm=(0, 2, 1, 3))


def gelu(g: Graph, x: str) -> str:
    """GELU by the error function."""
    inner = g.node("Erf", g.node("Div", x, g.constant(2.0**0.5, np.float32)))
    inner = g.node("Mul", x, g.node("Add", inner, g.constant(1.0, np.float32)))
    return g.node("Mul", inner, g.constant(0.5, np.float32))


def twelve_blocks(g: Graph) -> str:
    """Twelve equal transformer blocks with packed query, key and value; GELU written out."""
    x = g.input("tokens", 5, 8)
    for index in range(12):
        name = f"layer_{index}"
        y = g.dense(g.layer_norm(x, f"{name}_norm1", 8, 1e-6), f"{name}_qkv", 8, 24)
        q, k, v = (
            heads(g, g.node("Slice", y, *(g.constant([at]) for at in (8 * part, 8 * part + 8, 2)))) for part in range(3)
        )
        scores = g.node("MatMul", q, g.node("Transpose", k, perm=(0, 1, 3, 2)))
        y = g.node("Softmax", g.node("Mul", scores, g.constant(0.5, np.float32)), axis=-1)
        y = g.node("Transpose", g.node("MatMul", y, v), perm=(0, 2, 1, 3))
        x = g.node("Add", x, g.dense(g.node("Reshape", y, g.constant([0, 0, 8])), f"{name}_out", 8, 8))
        y = gelu(g, g.dense(g.layer_norm(x, f"{name}_norm2", 8, 1e-6), f"{name}_up", 8, 8))
        x = g.node("Add", x, g.dense(y, f"{name}_down", 8, 8))
    return x


NETWORKS = {
    build.__name__: build
    for build in (
        conv2d, same_padding, same_lower, lstm, gru, gru_reset_before, bidirectional, square_dense, constants, twins,
        external_data, batchnorm, transposed, embeddings, depthwise, prelu, twelve_blocks,
    )
}  # fmt: skip


def main() -> None:
    """Build, run and save each."""
    path, table = chosen(NETWORKS)
    folder = Folder(path, "onnx", ("onnx", "onnxruntime", "numpy"))
    for name, build in table.items():
        g = Graph(name)
        model = g.model([build(g)])
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        random = seeded("inputs of " + name)
        feed = {}
        for entry in session.get_inputs():
            shape = (3, *entry.shape[1:])
            is_text = entry.type == "tensor(int64)"
            feed[entry.name] = tokens(random, *shape, size=8).astype(np.int64) if is_text else images(random, *shape)
        outputs = session.run(None, feed)
        save = {
            "model.onnx": lambda at, model=model: onnx.save(model, at),
            "renamed.onnx": lambda at, model=model, name=name: onnx.save(renamed(model, name), at),
            "lying.onnx": lambda at, model=model, name=name: onnx.save(lying(model, name), at),
        }
        if name == "external_data":
            save = {"model.onnx": lambda at, model=model: save_in_two(model, at)}
        folder.put(name, arrays=g.weights, inputs=list(feed.values()), outputs=outputs, save=save)


def save_in_two(model: onnx.ModelProto, at: str) -> None:
    """The model, and its larger weights beside it."""
    Path(at).with_name("weights.bin").unlink(missing_ok=True)
    onnx.save_model(model, at, save_as_external_data=True, location="weights.bin", size_threshold=256)


if __name__ == "__main__":
    sys.exit(main())
