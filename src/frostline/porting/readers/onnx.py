"""ONNX models: the graph as layers, and its weights; nothing is run.

References:
    ONNX, `onnx/onnx.proto`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.readers.contract import Source
from frostline.porting.readers.onnx_functions import Functions
from frostline.porting.readers.onnx_graph import Graph
from frostline.porting.readers.protobuf import Wire, beginning
from frostline.porting.readers.tensor_data import check_names

if TYPE_CHECKING:
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_IR_VERSION, _GRAPH, _OPSETS, _TRAINING, _FUNCTIONS = 1, 7, 8, 20, 25
_KNOWN = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})


def claims(file: WeightFile) -> bool:
    """Whether the file begins with the fields of a ModelProto."""
    first = beginning(Wire(file).span())
    numbers = {number for number, _ in first}
    version = dict(first).get(_IR_VERSION)
    return isinstance(version, int) and version < 1_000 and _GRAPH in numbers and numbers <= _KNOWN


def read(file: WeightFile) -> Source:
    """Read a model.

    Args:
        file: The `.onnx` file; files with external data lie in its folder or below.

    Raises:
        PortError: If the file is damaged, names a file outside of its folder, or has tensors of an unsupported dtype.
    """
    model = Wire(file).message()
    message = model.message(_GRAPH)
    if message is None:
        raise file.damaged("an ONNX model without a graph")
    opsets = {one.text(1): one.integer(2) for one in model.messages(_OPSETS)}
    graph = Graph(file, Functions(file, model.messages(_FUNCTIONS), opsets))
    graph.add(message, "")
    tensors = graph.tensors()
    check_names(file, [tensor.name for tensor in tensors])
    notes = list(graph.notes())
    if model.has(_TRAINING):
        notes.append("The training graph in the file was left out.")
    if opaque := graph.functions.opaque:
        notes.append(f"These functions of the file were not inlined: {', '.join(sorted(opaque)[:5])}.")
    versions = [version for domain, version in opsets.items() if domain in ("", "ai.onnx")]
    return Source(
        "ONNX", "onnx", tensors, order="graph", layers=graph.layers(), dropped=graph.dropped, notes=tuple(notes),
        opset=max(versions, default=1),
    )  # fmt: skip
