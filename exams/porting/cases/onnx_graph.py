"""A few words in which the graphs of `from_onnx` are written, over `onnx.helper`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from golden import random_value, seeded
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

OPSET, IR = 17, 8


class Graph:
    """A graph that grows node by node; a node gives the name of its first output.

    Args:
        name: Of the network: its random values depend on it.
        constants: Whether weights stand in `Constant` nodes instead of initializers.
    """

    def __init__(self, name: str, *, constants: bool = False) -> None:
        self.name, self.constants = name, constants
        self.random = seeded("onnx " + name)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        """An input of the graph, with a free first axis."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["batch", *shape]))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """A random weight."""
        self.weights[name] = random_value(self.random, name, shape)
        return name

    def constant(self, values: Any, kind: type = np.int64) -> str:
        """A constant that is no weight."""
        return self.node("Constant", value=numpy_helper.from_array(np.asarray(values, kind)))

    def node(self, operator: str, *inputs: str, outputs: int = 1, **settings: Any) -> str:
        """A node; the names of its outputs are numbered."""
        first = f"{operator.lower()}_{len(self.nodes)}"
        names = [first, *(f"{first}_{index}" for index in range(1, outputs))]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name="node_" + first, **settings))
        return first

    def conv(self, x: str, name: str, ins: int, outs: int, *sizes: int, groups: int = 1, **settings: Any) -> str:
        """A convolution with bias."""
        weights = self.weight(f"{name}/weight", outs, ins // groups, *sizes), self.weight(f"{name}/bias", outs)
        return self.node("Conv", x, *weights, kernel_shape=sizes, group=groups, **settings)

    def transposed(self, x: str, name: str, ins: int, outs: int, size: int, **settings: Any) -> str:
        """A transposed convolution with bias."""
        weights = self.weight(f"{name}/weight", ins, outs, size, size), self.weight(f"{name}/bias", outs)
        return self.node("ConvTranspose", x, *weights, kernel_shape=(size, size), **settings)

    def norm(self, x: str, name: str, width: int, epsilon: float = 1e-5) -> str:
        """A BatchNorm in evaluation."""
        weights = (self.weight(f"{name}/{leaf}", width) for leaf in ("scale", "bias", "mean", "var"))
        return self.node("BatchNormalization", x, *weights, epsilon=epsilon)

    def gemm(self, x: str, name: str, ins: int, outs: int) -> str:
        """A dense layer with the weight of (outs, ins)."""
        weights = self.weight(f"{name}/weight", outs, ins), self.weight(f"{name}/bias", outs)
        return self.node("Gemm", x, *weights, transB=1)

    def dense(self, x: str, name: str, ins: int, outs: int) -> str:
        """A dense layer with the kernel of (ins, outs), as a product and a sum."""
        product = self.node("MatMul", x, self.weight(f"{name}/kernel", ins, outs))
        return self.node("Add", product, self.weight(f"{name}/bias", outs))

    def layer_norm(self, x: str, name: str, width: int, epsilon: float) -> str:
        """A LayerNorm of the last axis."""
        weights = self.weight(f"{name}/scale", width), self.weight(f"{name}/bias", width)
        return self.node("LayerNormalization", x, *weights, axis=-1, epsilon=epsilon)

    def recurrent(self, x: str, name: str, kind: str, ins: int, units: int, ways: int = 1, **settings: Any) -> str:
        """A recurrent layer on (batch, steps, ins), giving (batch, steps, ways x units)."""
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
        shapes = {"W": (gates * units, ins), "R": (gates * units, units), "B": (2 * gates * units,)}
        weights = [self.weight(f"{name}/{leaf}", ways, *shape) for leaf, shape in shapes.items()]
        way = "bidirectional" if ways == 2 else "forward"
        steps = self.node("Transpose", x, perm=(1, 0, 2))
        y = self.node(kind, steps, *weights, hidden_size=units, direction=way, **settings)
        y = self.node("Transpose", y, perm=(2, 0, 1, 3))
        return self.node("Reshape", y, self.constant([0, 0, -1]))

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The whole model."""
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        nodes = self.nodes
        if self.constants:
            nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors] + nodes
            tensors = []
        graph = helper.make_graph(nodes, self.name, self.inputs, ends, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
