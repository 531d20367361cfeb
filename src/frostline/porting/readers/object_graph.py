"""The object graph of a TensorFlow 2 checkpoint: the variables of the network, and their names.

The key of a variable follows one path of objects that leads to it, and not always the one through the network: Keras 3
stores the kernels of a trained model under `optimizer/_trainable_variables`. The graph is therefore traversed from the
root without its optimizers: every variable that is reached belongs to the network.

References:
    TensorFlow, `core/protobuf/trackable_object_graph.proto`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.porting.readers.protobuf import Wire

if TYPE_CHECKING:
    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_MAX_PATH = 64
_OPTIMIZER_CHILDREN = frozenset({"iter", "iterations", "_iterations", "learning_rate", "_learning_rate"})
_KERAS_CHILDREN = frozenset(
    {"layer-0", "layer_with_weights-0", "_operations", "_functional", "keras_api", "_all_variables"}
)


@dataclass(frozen=True)
class Variable:
    """A variable of the network.

    Attributes:
        key: Its key in the index.
        full_name: The name that its framework assigned (`dense/kernel`); empty if none.
        path: The path of object names from the root, joined by `/`.
    """

    key: str
    full_name: str
    path: str


@dataclass(frozen=True)
class Objects:
    """The variables in an object graph.

    Attributes:
        variables: Those of the network; variables with shorter paths come first.
        others: The keys of all others, which belong to optimizers.
        is_keras: Whether the objects are Keras objects.
    """

    variables: tuple[Variable, ...]
    others: frozenset[str]
    is_keras: bool


@dataclass(frozen=True)
class _Node:
    children: tuple[tuple[str, int], ...]
    values: tuple[tuple[str, str], ...]  # key, full name
    has_slots: bool


def objects(file: WeightFile, graph: bytes) -> Objects:
    """Read the graph of objects.

    Args:
        file: The file, for errors.
        graph: The bytes under `KEY` in the checkpoint.

    Raises:
        PortError: If the graph is damaged.
    """
    nodes = [_node(message) for message in Wire(file, graph).message().messages(1)]
    paths = _paths(file, nodes)
    found = {
        key: Variable(key, full_name, paths[place])
        for place in paths
        for key, full_name in nodes[place].values
        if key.endswith(SUFFIX)
    }
    keys = {key for node in nodes for key, _ in node.values}
    is_keras = any(name in _KERAS_CHILDREN for node in nodes for name, _ in node.children)
    return Objects(tuple(found.values()), frozenset(keys - set(found)), is_keras)


def _node(message: Message) -> _Node:
    children = tuple((child.text(2), child.integer(1)) for child in message.messages(1))
    values = tuple((value.text(3), value.text(2)) for value in message.messages(2))
    return _Node(children, values, message.has(3))


def _paths(file: WeightFile, nodes: list[_Node]) -> dict[int, str]:
    """The shortest path to each object that can be reached without passing through an optimizer."""
    paths = {0: ""} if nodes else {}
    queue = deque(paths)
    while queue:
        place = queue.popleft()
        for name, child in nodes[place].children:
            if not 0 <= child < len(nodes):
                raise file.damaged(f"an object whose child has the index {child}, among {len(nodes)} objects")
            path = f"{paths[place]}/{name}" if paths[place] else name
            if child not in paths and not _is_optimizer(name, nodes[child]) and path.count("/") < _MAX_PATH:
                paths[child] = path
                queue.append(child)
    return paths


def _is_optimizer(name: str, node: _Node) -> bool:
    return (
        node.has_slots or "optimizer" in name.lower() or any(child in _OPTIMIZER_CHILDREN for child, _ in node.children)
    )
