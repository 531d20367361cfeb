"""The same ONNX graph under other names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from golden import lying_names, new_names, seeded

if TYPE_CHECKING:
    from collections.abc import Mapping


def renamed(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Weights, values and nodes without meaningful names, the weights in another order; inputs and outputs keep theirs.

    Args:
        model: Left as it is.
        name: Of the network; the new names depend on it.
    """
    random, graph = seeded("names of " + name), model.graph
    ends = {entry.name for entry in (*graph.input, *graph.output)}
    found = dict.fromkeys(
        [entry.name for entry in graph.initializer] + [out for node in graph.node for out in node.output]
    )
    other = with_names(model, new_names(random, [each for each in found if each and each not in ends]))
    tensors = [other.graph.initializer[int(index)] for index in random.permutation(len(other.graph.initializer))]
    del other.graph.initializer[:]
    other.graph.initializer.extend(tensors)
    for index, node in enumerate(other.graph.node):
        node.name = f"n{index}"
    return other


def lying(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Each weight under the name of another of its shape."""
    shapes = {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    return with_names(model, lying_names(seeded("lies of " + name), shapes))


def with_names(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """A copy in which every mention of a name is replaced."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for entry in other.graph.initializer:
        entry.name = names.get(entry.name, entry.name)
    for node in other.graph.node:
        for table in (node.input, node.output):
            table[:] = [names.get(value, value) for value in table]
    del other.graph.value_info[:]
    return other
