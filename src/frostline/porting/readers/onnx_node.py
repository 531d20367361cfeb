"""Nodes and constants of an ONNX graph, as they are represented while the graph is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from torch import Tensor

    from frostline.porting.readers.onnx_tensor import OnnxTensor

MADE_UP = re.compile(r".*::|.*_output_\d+|val_\d+|const_|new_shape_|\d+\Z|\Z")


@dataclass(frozen=True)
class Constant:
    """A value that is known without running the graph.

    Attributes:
        name: Its name in the graph.
        tensor: The stored tensor.
        perm: The order of axes after a Transpose; empty if there is none.
        load: Reads the value if it is quantised or assembled from several tensors; otherwise that of `tensor` is used.
        shape: The shape, if it is assembled from several tensors.
    """

    name: str
    tensor: OnnxTensor
    perm: tuple[int, ...] = ()
    load: Callable[[], Tensor] | None = None
    shape: tuple[int, ...] = ()

    @property
    def is_float(self) -> bool:
        """Whether its values are floats after loading."""
        return self.load is not None or self.tensor.is_float


@dataclass
class Node:
    """A node.

    Attributes:
        name: Its name in the graph, or a generated one from its kind and number.
        kind: Its operator.
        config: Its attributes, and the names of its inputs and outputs.
        inputs: The names of its input values.
        sources: The nodes that compute its inputs.
        owned: The constants of which it is the first user, with leaves.
        unit: The name of its unit, if that does not follow from the names of its weights.
    """

    name: str
    kind: str
    config: dict[str, Any]
    inputs: list[str]
    sources: list[Node]
    owned: list[tuple[Constant, str]] = field(default_factory=list[tuple[Constant, str]])
    unit: str = ""


def unit_of(node: Node, weighted: Container[str]) -> str:
    """The common prefix of the names of a node's weights; the name of the node if these names were generated.

    Args:
        node: The node.
        weighted: The operators that take weights.
    """
    if node.unit:
        return node.unit
    given = [constant.name for constant, _ in node.owned if not MADE_UP.match(constant.name)]
    shared = {name.rpartition(".")[0] for name in given if "." in name}
    if len(shared) == 1:
        return shared.pop()
    # A parameter of the root module: its name has no dot, and its operator is not one that takes weights.
    return "" if len(given) == 1 and given[0].isidentifier() and node.kind not in weighted else node.name
