"""The nodes of an ONNX graph: the role and the unit of each of their constant inputs.

A unit is a node with weights. If the exporter kept the names of parameters (`layer1.0.conv1.weight`), their common
prefix is the name of the unit (`layer1.0.conv1`); if it generated names (`onnx::Conv_193`), the unit has the name of
the node. Further nodes can belong to a unit: the addition of a bias, and nodes whose constants share its name
(`norm.weight` in a Mul, `norm.bias` in an Add).
"""

from __future__ import annotations

from collections import ChainMap, Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.porting.readers.contract import SourceLayer, SourceTensor
from frostline.porting.readers.onnx_functions import Call, Functions, branch_of
from frostline.porting.readers.onnx_gates import joined
from frostline.porting.readers.onnx_node import MADE_UP, Constant, Node, unit_of
from frostline.porting.readers.onnx_tensor import DTYPE_NAMES, OnnxTensor, dequantised

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

_MATRIX = {1: "weight", 2: "bias"}
_RECURRENT = {1: "W", 2: "R", 3: "B", 7: "P"}
_NORM = {1: "scale", 2: "B", 3: "mean", 4: "var"}
# The leaves of an operator's inputs, by position.
_LEAVES = {
    "Conv": _MATRIX, "ConvTranspose": _MATRIX, "Gemm": _MATRIX, "MatMul": {1: "weight"}, "LSTM": _RECURRENT,
    "GRU": _RECURRENT, "RNN": _RECURRENT, "BatchNormalization": _NORM, "InstanceNormalization": _NORM,
    "LayerNormalization": _NORM, "GroupNormalization": _NORM, "RMSNormalization": _NORM, "PRelu": {1: "slope"},
    "Gather": {0: "weight"}, "ConvInteger": {1: "weight"}, "MatMulInteger": {1: "weight"},
    "QLinearConv": {3: "weight", 8: "bias"}, "QLinearMatMul": {3: "weight"},
}  # fmt: skip
# Inputs that are settings although they may be arrays of floats; None: all inputs.
_SETTINGS = {
    "Resize": None, "Upsample": None, "Clip": None, "Pad": None, "OneHot": None, "Range": None, "Dropout": None,
    "QuantizeLinear": None, "DequantizeLinear": None, "DynamicQuantizeLinear": None, "Constant": None,
    "ConstantOfShape": None, "QLinearConv": (1, 2, 4, 5, 6, 7), "QLinearMatMul": (1, 2, 4, 5, 6, 7),
}  # fmt: skip
_OURS = frozenset(
    {"input", "output", "domain", "constants", "transposed"}
)  # entries of `config` that this reader adds; no operator has such attributes
_INITIAL = frozenset({"LSTM", "GRU", "RNN"})  # their inputs without weights are initial states
_QUANTISED = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
OTHER = "other than numbers"  # the dtype of an input that is a string tensor or not a tensor
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")  # of the values between layers
_SMALL = 64  # elements; an integer constant with fewer elements is a setting of its node


class Graph:
    """All nodes of a graph and of its subgraphs.

    Args:
        file: The file with the graph.
        functions: The functions that its nodes may call.

    Attributes:
        dropped: The drop class of constants that are not weights, by name.
    """

    def __init__(self, file: WeightFile, functions: Functions | None = None) -> None:
        self.file = file
        self.functions = functions or Functions(file, ())
        self.dropped: dict[str, str] = {}
        self._nodes: list[Node] = []
        self._names: set[str] = set()
        # The scopes of names: a subgraph has names of its own, and can use those of the enclosing graphs.
        self._made: ChainMap[str, Node] = ChainMap()  # node by the value that it computes
        self._constants: ChainMap[str, Constant] = ChainMap()
        self._owned: set[str] = set()  # constants
        self._known: set[str] = set()  # constants
        self._num_dequantised = 0

    def add(self, message: Message, prefix: str) -> None:
        """Add a graph; `prefix` is the name of the node that contains it."""
        if message.has(15):
            raise self.file.refused(
                "The graph contains sparse tensors.", f"{len(message.spans(15))} of them",
                "export the network with dense weights.",
            )  # fmt: skip
        for initializer in message.messages(5):
            tensor = OnnxTensor(self.file, initializer)
            self._define(tensor.name, Constant(self._distinct(prefix, tensor.name), tensor))
        for given in message.messages(11):
            if (name := given.text(1)) not in self._constants:
                self._append(prefix + name, "Input", {"output": [name], **_stated(given)}, [], [name])
        for index, node in enumerate(message.messages(1)):
            self._add_node(Call.of(node), prefix, index)
        for given in message.messages(12):
            name = given.text(1)
            self._append(f"{prefix}{name}", "Output", {"input": [name]}, [name], [])
        if not prefix:
            self._nodes = joined(self._nodes, self._made, self._constants)

    def tensors(self) -> tuple[SourceTensor, ...]:
        """The weights, in the order of the nodes that use them."""
        places = [
            (unit_of(node, _LEAVES), leaf, constant, node) for node in self._nodes for constant, leaf in node.owned
        ]
        times = Counter((unit, leaf) for unit, leaf, _, _ in places)
        crowded = {unit for (unit, _), count in times.items() if count > 1}
        found: list[SourceTensor] = []
        taken: set[tuple[str, str]] = set()
        for shared, slot_leaf, constant, node in places:
            # If several nodes share a unit, only full names distinguish their tensors.
            place = (shared, constant.name.rpartition(".")[2] if shared in crowded else slot_leaf)
            place = (node.name, constant.name) if place in taken else place
            taken.add(place)
            found.append(self._tensor(constant, *place))
        return tuple(found)

    def _tensor(self, constant: Constant, unit: str, leaf: str) -> SourceTensor:
        tensor = constant.tensor
        dtype = "float32" if constant.load and not constant.shape else tensor.dtype
        if not dtype:
            raise self.file.refused(
                "The graph contains tensors of an unsupported dtype.",
                f"{constant.name!r} with the ONNX dtype {tensor.kind}",
                "export the network in float32 or bfloat16.",
            )  # fmt: skip
        return SourceTensor(
            constant.name, constant.shape or tensor.shape, dtype, unit, leaf, constant.load or tensor.load
        )

    def layers(self) -> tuple[SourceLayer, ...]:
        """Every node; the first node that uses the tensors of a unit has the name of the unit."""
        units = {tensor.name: tensor.unit for tensor in self.tensors()}
        names: dict[int, str] = {}
        taken: set[str] = set()
        found: list[SourceLayer] = []
        for node in self._nodes:
            used = next((units[value] for value in node.config.get("input", ()) if value in units), "")
            is_first = bool(used) and used not in taken and bool(node.owned)
            name = names[id(node)] = used if is_first else node.name
            taken.add(name)
            inputs = tuple(names[id(source)] for source in node.sources)
            found.append(SourceLayer(name, node.kind, node.config, inputs, "" if name == used else used))
        return tuple(found)

    def notes(self) -> Iterable[str]:
        """A note for each choice that was made."""
        if self._num_dequantised:
            yield (
                f"{self._num_dequantised} weights are stored as integers with a scale and were dequantised; the "
                "file does not contain the original weights."
            )
        kinds = {node.kind for node in self._nodes}
        if integers := sorted(kinds & _QUANTISED):
            yield f"Weights of {', '.join(integers)} are integers, which no module of floats has."
        folded = [node.name for node in self._nodes if node.kind == "Conv" and _is_folded(node)]
        if folded:
            yield (f"The exporter folded a BatchNorm into {len(folded)} of the convolutions: {', '.join(folded[:3])}.")
        elif "Conv" in kinds and "BatchNormalization" not in kinds:
            yield (
                "The graph has convolutions and no BatchNorm: the exporter may have folded BatchNorm layers into them, "
                "which the names do not show."
            )

    def _add_node(self, call: Call, prefix: str, index: int) -> None:
        kind, inputs, outputs = call.kind, list(call.inputs), list(call.outputs)
        name = f"{prefix}{call.name or f'{kind}_{index}'}"
        if (body := self._inlined(call)) is not None:
            for inner, one in enumerate(body):
                self._add_node(one, f"{name}/", inner)
            return
        config: dict[str, Any] = {}
        graphs: list[tuple[str, Message]] = []
        tensors: dict[str, OnnxTensor] = {}
        for key, attribute in call.attributes:
            graphs += [(key, graph) for graph in (*attribute.messages(6), *attribute.messages(11))]
            if key in _OURS:
                raise self.file.damaged(f"an attribute named {key!r}")
            if (value := attribute.message(5)) is not None:
                tensors[key] = OnnxTensor(self.file, value)
            else:
                config[key] = _setting(attribute)
        if kind == "Constant" and "value" in tensors and len(outputs) == 1:
            self._define(outputs[0], Constant(self._distinct(prefix, outputs[0]), tensors["value"]))
            return
        if len(outputs) == 1 and (constant := self._passed_on(kind, config, inputs)) is not None:
            self._define(outputs[0], constant)
            return
        for key, graph in graphs:
            self._made, self._constants = self._made.new_child(), self._constants.new_child()
            self.add(graph, f"{name}/{key}/")
            self._made, self._constants = self._made.parents, self._constants.parents
        config |= {key: tensor.load().tolist() for key, tensor in tensors.items() if self._is_small(tensor)}
        if call.domain:
            config["domain"] = call.domain
        node = self._append(name, kind, config | {"input": list(inputs), "output": outputs}, inputs, outputs)
        self._own(node)

    def _inlined(self, call: Call) -> list[Call] | None:
        """The nodes that replace the call of a function, or an `If` with a constant condition; None for other nodes."""
        if call.kind == "If" and not call.domain and call.inputs:
            known = self._constants.get(call.inputs[0])
            if known is None or known.tensor.dtype != "bool" or known.tensor.num_elements != 1:
                return None
            return branch_of(call, bool(known.tensor.load()), self._constants.keys())
        return self.functions.body(call)

    def _append(self, name: str, kind: str, config: dict[str, Any], inputs: list[str], outputs: list[str]) -> Node:
        while name in self._names:
            name = f"{name}_{len(self._nodes)}"
        self._names.add(name)
        node = Node(name, kind, config, inputs, [self._made[value] for value in inputs if value in self._made])
        for value in inputs:
            if value and value not in self._made and value not in self._constants:
                raise self.file.damaged(f"the node {name!r} takes {value!r}, which no earlier node computes")
        for value in outputs:
            if value:
                self._made[value] = node
        self._nodes.append(node)
        return node

    def _define(self, name: str, constant: Constant) -> None:
        if name in self._constants.maps[0]:
            raise self.file.damaged(f"two tensors named {name!r}")
        self._constants[name] = constant

    def _distinct(self, prefix: str, name: str) -> str:
        """A unique name for a constant: with the name of its graph if another graph has the same constant name."""
        distinct = f"{prefix}{name}" if name in self._known else name
        self._known.add(distinct)
        return distinct

    def _passed_on(self, kind: str, config: dict[str, Any], inputs: list[str]) -> Constant | None:
        """The constant that a node returns if it passes one on unchanged, transposed or dequantised; otherwise None."""
        constant = self._constants.get(inputs[0]) if inputs else None
        if constant is None:
            return None
        if kind in ("Identity", "Cast"):
            return constant
        if kind == "Transpose" and not constant.perm and (constant.is_float or constant.load):
            perm = config.get("perm", [1, 0] if len(constant.tensor.shape) == 2 else None)
            return replace(constant, perm=(1, 0)) if perm == [1, 0] else None
        if kind == "DequantizeLinear" and not config.get("block_size"):
            return self._dequantised(constant, config, [self._constants.get(name) for name in inputs[1:]])
        return None

    def _dequantised(self, constant: Constant, config: dict[str, Any], given: list[Constant | None]) -> Constant | None:
        parts = [constant, *given]
        if not given or constant.perm or not all(item is not None and item.tensor.dtype for item in parts):
            return None
        scale, *zero = [item.tensor for item in given if item is not None]
        axis, shape = config.get("axis", 1), constant.tensor.shape
        is_axis = isinstance(axis, int) and -len(shape) <= axis < len(shape)
        if scale.num_elements != 1 and not (is_axis and scale.num_elements == shape[axis]):
            raise self.file.damaged(f"{scale.num_elements} scales for {constant.name!r} of shape {shape}")
        if any(item.num_elements != scale.num_elements for item in zero):
            raise self.file.damaged(f"{scale.num_elements} scales and other zero points for {constant.name!r}")
        self._num_dequantised += 1
        self.dropped |= {item.name: "quantisation" for item in given if item is not None}

        def load() -> Tensor:
            return dequantised(constant.tensor.load(), scale.load(), zero[0].load() if zero else None, axis)

        return replace(constant, load=load)

    def _own(self, node: Node) -> None:
        """Assign to the node the constants of which it is the first user."""
        for slot, value in enumerate(node.inputs):
            constant = self._constants.get(value)
            if constant is None:
                continue
            leaf = _LEAVES.get(node.kind, {}).get(slot, "")
            node.config["input"][slot] = constant.name
            if constant.perm:
                _transpose(node, slot)
            if not self._is_weight(constant, node.kind, slot, leaf):
                self._drop(node, constant)
            elif constant.name not in self._owned:
                owner = self._biased(node, constant) or node
                leaf = "bias" if owner is not node else leaf or constant.name.rpartition(".")[2]
                self._owned.add(constant.name)
                owner.owned.append((constant, leaf))

    def _is_weight(self, constant: Constant, kind: str, slot: int, leaf: str) -> bool:
        tensor = constant.tensor
        if kind in _SETTINGS and (_SETTINGS[kind] is None or slot in (_SETTINGS[kind] or ())):
            return False
        if (kind in _INITIAL or (kind == "Expand" and MADE_UP.match(constant.name))) and constant.is_float and not leaf:
            return bool(tensor.load().any())  # a zero initial state is the default of recurrent layers
        if leaf and kind != "Gather":
            return True
        if not tensor.dtype and tensor.kind != 8:
            return True  # refused later, with its name
        return tensor.num_elements > (1 if constant.is_float else _SMALL)

    def _drop(self, node: Node, constant: Constant) -> None:
        self.dropped.setdefault(constant.name, "constant of the graph")
        if self._is_small(constant.tensor):
            node.config.setdefault("constants", {})[constant.name] = constant.tensor.load().tolist()

    def _is_small(self, tensor: OnnxTensor) -> bool:
        return bool(tensor.dtype) and tensor.num_elements <= _SMALL

    def _biased(self, node: Node, constant: Constant) -> Node | None:
        """The matrix product to which a node adds a bias; None if the node does not."""
        if node.kind != "Add" or len(constant.tensor.shape) != 1:
            return None
        for value in node.inputs:
            before = self._made.get(value)
            while before is not None and before.kind in _ROUNDING and before.sources:
                before = before.sources[0]
            if before is not None and before.kind == "MatMul" and [leaf for _, leaf in before.owned] == ["weight"]:
                shape = before.owned[0][0].tensor.shape
                if shape and shape[0 if before.config.get("transB") else -1] == constant.tensor.shape[0]:
                    return before
        return None


def _is_folded(node: Node) -> bool:
    """Whether PyTorch's exporter generated new weights for a convolution, which it does to fold a BatchNorm."""
    names = [constant.name for constant, _ in node.owned]
    return len(names) == 2 and (names[0].startswith("onnx::Conv_") or names[1].endswith(".weight_bias"))


def _transpose(node: Node, slot: int) -> None:
    """Record that the constant in a slot is transposed."""
    if slot == 1 and node.kind in ("MatMul", "Gemm"):
        node.config["transB"] = int(not node.config.get("transB"))
    else:
        node.config.setdefault("transposed", []).append(slot)


def _setting(attribute: Message) -> Any:
    """The value of an attribute, according to its stated type or, without one, its only field."""
    kind = attribute.integer(20) or next((k for k, number in _KINDS.items() if attribute.has(number)), 0)
    if kind == 1:
        return attribute.float32(2)
    if kind == 2:
        return attribute.integer(3)
    if kind == 3:
        span = attribute.span(4)
        return span.bytes()[:200].decode(errors="replace") if span is not None else ""
    if kind == 6:
        return _floats(attribute)
    if kind == 7:
        return attribute.integers(8)
    return [span.bytes()[:200].decode(errors="replace") for span in attribute.spans(9)] if kind == 8 else None


_KINDS = {1: 2, 2: 3, 3: 4, 6: 7, 7: 8, 8: 9}


def _floats(attribute: Message) -> list[float]:
    return np.frombuffer(attribute.fixed(7, "<f4"), dtype="<f4").tolist()


def _stated(given: Message) -> dict[str, Any]:
    """The shape of a graph input, with names for variable sizes, and its dtype."""
    kind = given.message(2)
    tensor = kind.message(1) if kind is not None else None
    shape = tensor.message(2) if tensor is not None else None
    dtype = DTYPE_NAMES.get(tensor.integer(1), "") if tensor is not None else ""
    axes = shape.messages(1) if shape is not None else []
    sizes = [axis.integer(1) if axis.has(1) else axis.text(2) or None for axis in axes]
    is_open = kind is None or (tensor is not None and not tensor.integer(1))
    return {"shape": sizes, "dtype": dtype or ("float32" if is_open else OTHER)}
