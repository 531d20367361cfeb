"""A node of an ONNX graph and the constants that it uses, while the graph is read."""

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
        tensor: What is stored.
        perm: The order of axes that a Transpose gives it; empty if it goes through none.
        load: Reads it, instead of the tensor's own, if it is stored quantised or put together of several.
        shape: Of one that is put together.
    """

    name: str
    tensor: OnnxTensor
    perm: tuple[int, ...] = ()
    load: Callable[[], Tensor] | None = None
    shape: tuple[int, ...] = ()

    @property
    def is_float(self) -> bool:
        """Whether it holds floats once it is loaded."""
        return self.load is not None or self.tensor.is_float


@dataclass
class Node:
    """A node.

    Attributes:
        name: Its name in the graph, or one made of its kind and number.
        kind: Its operator.
        config: Its attributes, and the names of its inputs and outputs.
        inputs: The values that it takes.
        sources: The nodes that compute these.
        owned: The constants that it is the first to use, with leaves.
        unit: What its weights are called, where that is not told by their names.
    """

    name: str
    kind: str
    config: dict[str, Any]
    inputs: list[str]
    sources: list[Node]
    owned: list[tuple[Constant, str]] = field(default_factory=list[tuple[Constant, str]])
    unit: str = ""


def unit_of(node: Node, weighted: Container[str]) -> str:
    """What the names of a node's weights share, if they were not made up; else its own name.

    Args:
        node: With the constants that it owns.
        weighted: Operators that take weights.
    """
    if node.unit:
        return node.unit
    given = [constant.name for constant, _ in node.owned if not MADE_UP.match(constant.name)]
    shared = {name.rpartition(".")[0] for name in given if "." in name}
    if len(shared) == 1:
        return shared.pop()
    # A parameter of the outermost module: its name has no point, and no operator of weights takes it.
    return "" if len(given) == 1 and given[0].isidentifier() and node.kind not in weighted else node.name
