"""Frozen TensorFlow graphs: the constants that replaced variables, and the nodes that use them.

References:
    TensorFlow, `core/framework/{graph,node_def,attr_value,tensor}.proto`, `core/protobuf/saved_model.proto`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from frostline.porting.readers.protobuf import Message, Span, Wire, beginning
from frostline.porting.readers.source_names import unit_and_leaf
from frostline.porting.readers.tensor_bundle import DTYPE_NAMES
from frostline.porting.readers.tensor_data import check_names
from frostline.porting.readers.tensorflow_tensor import TensorFlowTensor

if TYPE_CHECKING:
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
# The leaves of an operator's inputs, by position.
_NORM = {1: "gamma", 2: "beta", 3: "moving_mean", 4: "moving_variance"}
_LEAVES = {
    "Conv1D": {1: "kernel"}, "Conv2D": {1: "kernel"}, "Conv3D": {1: "kernel"}, "MatMul": {1: "kernel"},
    "BatchMatMulV2": {1: "kernel"}, "DepthwiseConv2dNative": {1: "depthwise_kernel"},
    "Conv2DBackpropInput": {1: "kernel"}, "Conv3DBackpropInputV2": {1: "kernel"}, "BiasAdd": {1: "bias"},
    "GatherV2": {0: "embeddings"}, "ResourceGather": {0: "embeddings"},
    "FusedBatchNorm": _NORM, "FusedBatchNormV2": _NORM, "FusedBatchNormV3": _NORM,
}  # fmt: skip
_PASSED_THROUGH = frozenset({"Identity", "ReadVariableOp", "Enter", "Cast"})
_ADDITIONS = frozenset({"BiasAdd", "Add", "AddV2"})
_VARIABLES = frozenset({"VarHandleOp", "Variable", "VariableV2"})
_SMALL = 64  # elements; an integer constant with fewer elements is a setting of its node


@dataclass(frozen=True)
class _Node:
    name: str
    kind: str
    inputs: tuple[str, ...]
    config: dict[str, Any]


def claims(file: WeightFile) -> bool:
    """Whether the file is a GraphDef, a SavedModel, or a MetaGraphDef (`.meta`)."""
    first = beginning(Wire(file).span())
    if len(first) > 1 and first[0] == (1, 1) and all(number == 2 and isinstance(v, Span) for number, v in first[1:]):
        return True
    return _has_nodes(first) or _has_nodes(_inside(first, 2))


def read(file: WeightFile) -> Source:
    """Read a frozen graph.

    Args:
        file: A GraphDef, or the `saved_model.pb` of a SavedModel whose variables are constants.

    Raises:
        PortError: If the file is damaged, or its weights are in another file.
    """
    constants: dict[str, TensorFlowTensor] = {}
    nodes: dict[str, _Node] = {}
    names: list[str] = []
    for message in _node_messages(file):
        name, kind = message.text(1), message.text(2)
        names.append(name)
        attributes = {pair.text(1): pair.message(2) for pair in message.messages(5)}
        value = attributes.get("value")
        if kind == "Const" and value is not None and (tensor := value.message(8)) is not None:
            constants[name] = TensorFlowTensor(file, tensor)
        else:
            inputs = tuple(text for text in message.texts(3) if not text.startswith("^"))
            config = {name: _setting(item) for name, item in attributes.items() if item is not None}
            nodes[name] = _Node(name, kind, inputs, {k: v for k, v in config.items() if v is not None})
    check_names(file, names)
    if num_variables := sum(node.kind in _VARIABLES for node in nodes.values()):
        raise file.refused(
            "The graph contains no weights, only variables.", f"{num_variables} variables in {len(nodes)} nodes",
            "pass the checkpoint of this graph (`variables/variables.index` of a SavedModel).",
        )  # fmt: skip
    return _Graph(file, constants, nodes).source()


def _has_nodes(fields: list[tuple[int, int | Span]]) -> bool:
    """Whether these are the fields of a GraphDef: nodes that begin with a name and an operator."""
    numbers = [number for number, value in _inside(fields, 1) if isinstance(value, Span)]
    return numbers[:2] == [1, 2] and {number for number, _ in fields} <= {1, 2, 3, 4, 5}


def _inside(fields: list[tuple[int, int | Span]], number: int) -> list[tuple[int, int | Span]]:
    """The first fields of the first message with this field number."""
    found = next((value for key, value in fields if key == number), None)
    return beginning(found) if isinstance(found, Span) else []


def _node_messages(file: WeightFile) -> list[Message]:
    whole = Wire(file).message()
    first = beginning(whole.wire.span())
    if _has_nodes(first):
        graphs = [whole]
    elif first and isinstance(first[0][1], int):
        graphs = [graph for meta in whole.messages(2) if (graph := meta.message(2)) is not None]
    else:
        graphs = list(whole.messages(2))
    functions = [f for graph in graphs for library in graph.messages(2) for f in library.messages(1)]
    found = [node for graph in graphs for node in graph.messages(1)]
    return found or [node for function in functions for node in function.messages(3)]


def _setting(value: Message) -> Any:
    if (text := value.span(2)) is not None:
        return text.bytes()[:200].decode(errors="replace")
    if value.has(4):
        return value.float32(4)
    if value.has(3) or value.has(5):
        return value.integer(3) if value.has(3) else bool(value.integer(5))
    many = value.message(1)
    return many.integers(3) if many is not None and many.has(3) else None


class _Graph:
    """Constants, the nodes that use them, and their roles."""

    def __init__(self, file: WeightFile, constants: dict[str, TensorFlowTensor], nodes: dict[str, _Node]) -> None:
        self.file, self.constants, self.nodes = file, constants, nodes
        self.units: dict[str, str] = {}  # unit by node
        self.places: dict[str, tuple[str, str]] = {}  # unit and leaf by constant
        self.settings: dict[str, dict[str, Any]] = {}
        self.biased: set[str] = set()  # units
        self.taken: set[str] = set()  # units

    def source(self) -> Source:
        """The content of the graph."""
        order = [name for name in _in_order(self.file, self.nodes) if not self._is_read(name)]
        for name in order:
            self._place(self.nodes[name])
        tensors: list[SourceTensor] = []
        for name, (unit, leaf) in self.places.items():
            constant = self.constants[name]
            tensors.append(SourceTensor(name, constant.shape, DTYPE_NAMES[constant.dtype], unit, leaf, constant.load))
        rest = [name for name in self.constants if name not in self.places]
        return Source(
            "TensorFlow graph", "tensorflow", tuple(tensors), order="graph", layers=self._layers(order),
            dropped=dict.fromkeys(rest, "constant of the graph"),
            notes=("Layers have the names of the scopes of the nodes that use their weights.",),
        )  # fmt: skip

    def _is_read(self, name: str) -> bool:
        """Whether the node passes a constant on unchanged."""
        return self.nodes[name].kind in _PASSED_THROUGH and self._constant(name) is not None

    def _constant(self, name: str) -> str | None:
        """The constant of an input, through nodes that pass it on; None if the input is computed."""
        for _ in range(8):
            name = _base(name)
            if name in self.constants:
                return name
            node = self.nodes.get(name)
            if node is None or node.kind not in _PASSED_THROUGH or not node.inputs:
                return None
            name = node.inputs[0]
        return None

    def _place(self, node: _Node) -> None:
        """Record the role of each constant input of a node; an added bias belongs to the node before the addition."""
        unit, settings = self._unit(node), dict(node.config)
        for slot, given in enumerate(node.inputs):
            if (name := self._constant(given)) is None:
                continue
            constant = self.constants[name]
            leaf = _LEAVES.get(node.kind, {}).get(slot, "")
            is_weight = constant.is_number and (constant.num_elements > 1 if constant.is_float else False)
            if is_weight or (leaf and constant.is_number):
                is_bias = node.kind in _ADDITIONS and unit != node.name
                leaf = "bias" if is_bias else leaf or unit_and_leaf(name)[1]
                self.places.setdefault(name, (unit, leaf))
                if is_bias:
                    self.biased.add(unit)
            elif constant.is_number and constant.num_elements <= _SMALL:
                settings.setdefault("constants", {})[given] = constant.load().tolist()
        self.settings[node.name] = settings

    def _unit(self, node: _Node) -> str:
        """The scope of a node with weights; for an added bias, the unit of the node before the addition."""
        unit = unit_and_leaf(node.name)[0] or node.name
        if node.kind in _ADDITIONS:
            before = [self.nodes[_base(given)] for given in node.inputs if _base(given) in self.units]
            multiplied = [
                n for n in before if "kernel" in str(_LEAVES.get(n.kind)) and self.units[n.name] not in self.biased
            ]
            unit = self.units[multiplied[0].name] if multiplied else node.name
        elif node.kind not in _LEAVES or unit in self.taken:
            unit = node.name
        self.units[node.name] = unit
        self.taken.add(unit)
        return unit

    def _layers(self, order: list[str]) -> tuple[SourceLayer, ...]:
        """One layer for each unit; the addition of a bias is not a separate layer."""
        found: dict[str, SourceLayer] = {}
        for name in order:
            node, unit = self.nodes[name], self.units[name]
            if unit in found:
                continue
            inputs = tuple(self.units[_base(given)] for given in node.inputs if _base(given) in self.units)
            found[unit] = SourceLayer(unit, node.kind, self.settings[name], inputs)
        return tuple(found.values())


def _base(given: str) -> str:
    """The name of the node of an input: `split` for `split:1`, its second output."""
    name, _, output = given.removeprefix("^").partition(":")
    return name if not output or output.split(":")[-1].isdecimal() else given


def _in_order(file: WeightFile, nodes: dict[str, _Node]) -> list[str]:
    """The nodes in topological order; nodes of loops come last, in the order of the file."""
    waiting = {name: {_base(given) for given in node.inputs} & nodes.keys() for name, node in nodes.items()}
    users: dict[str, list[str]] = {}
    for name, inputs in waiting.items():
        for given in inputs:
            users.setdefault(given, []).append(name)
    counts = {name: len(inputs) for name, inputs in waiting.items()}
    ready, found = deque(name for name, count in counts.items() if not count), []
    while ready:
        name = ready.popleft()
        found.append(name)
        for user in users.get(name, []):
            counts[user] -= 1
            if not counts[user]:
                ready.append(user)
    if not found and nodes:
        raise file.damaged("a graph in which every node depends on another one")
    done = set(found)
    return found + [name for name in nodes if name not in done]
