"""The outputs of an ONNX file, computed by ONNX Runtime, if it is installed.

A file of one kilobyte may state values of any size, and nodes that run any number of times. The graph is therefore run
in its own process, with limits of memory and time in proportion to weights and inputs; a graph that loops is not run.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frostline.core.errors import PortError
from frostline.porting.graphs.examples import is_makeable
from frostline.porting.interpreter import onnx_process
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.weight_file import WeightFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from frostline.porting.readers.contract import Source, SourceLayer
    from frostline.porting.readers.protobuf import Message

NAME = "ONNX Runtime"
SAMPLES = 3
# Numbers of fields: ModelProto.graph and .functions, GraphProto.node and .output, FunctionProto.node,
# ValueInfoProto.name, NodeProto.op_type and .attribute, AttributeProto.g and .graphs.
_GRAPH, _FUNCTIONS, _NODE, _OUTPUT, _OF_FUNCTION, _NAME, _KIND, _ATTRIBUTE, _SUBGRAPH, _SUBGRAPHS = (
    7, 25, 1, 12, 7, 1, 4, 5, 6, 11,
)  # fmt: skip
_LOOPING = frozenset(("Loop", "Scan"))
_FLOATS = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16}
_WHOLE = {"int64": torch.int64, "int32": torch.int32}

# Limits of a run: the values of a network take about ten times the memory of its inputs, and weights exist twice.
_LEAST_BYTES, _BYTES_PER_WEIGHT, _BYTES_PER_INPUT = 1 << 28, 4, 64
_LEAST_S, _BYTES_PER_S = 3, 1 << 19  # of processor time: VGG16 is allowed 1,000 s and takes 2 s
_WAITING_S = 60  # of wall time, added to ten times the processor time, for busy machines


def run(
    source: Source, path: str, seed: int = 0, values: Sequence[str] = ()
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random inputs, and the outputs of the file's graph for them, by their names in the file and in its order.

    The reader has parsed the graph and checked its external data before. ONNX Runtime runs without custom operators.

    Args:
        source: The content of the file.
        path: The path of the file.
        seed: The seed of the inputs.
        values: Names of values inside the graph to return instead of its outputs.

    Raises:
        NotInterpretedError: If ONNX Runtime is not installed or does not compute the graph within the limits, if the
            size of an input is open, or if the graph loops.
    """
    if find_spec("onnxruntime") is None:
        raise NotInterpretedError("ONNX Runtime is not installed (pip install 'frostline[port]')")
    if has_loops(source, path):
        raise NotInterpretedError("the graph has a loop, whose number of steps is not known")
    generator = torch.Generator().manual_seed(seed)
    stated = [layer for layer in source.layers if layer.kind == "Input"]
    inputs = tuple(_input(layer, _vocabulary(source), generator) for layer in stated)
    named = {layer.config["output"][0]: one for layer, one in zip(stated, inputs, strict=True)}
    whole = {name: one.long() if one.dtype == torch.int32 else one for name, one in named.items()}
    return whole, _computed(source, path, named, values)


def has_loops(source: Source, path: str) -> bool:
    """Whether the graph, a graph inside it or a function contains a loop."""
    if any(layer.kind in _LOOPING for layer in source.layers):
        return True
    try:
        with WeightFile(Path(path)) as file:
            functions = list(Wire(file).message().messages(_FUNCTIONS))
            return any(node.text(_KIND) in _LOOPING for node in _nodes(functions))
    except PortError as error:
        raise NotInterpretedError(f"ONNX Runtime refuses it ({type(error).__name__})") from error


def _nodes(functions: list[Message]) -> Iterator[Message]:
    """The nodes of functions, and of graphs inside them."""
    waiting = [node for function in functions for node in function.messages(_OF_FUNCTION)]
    while waiting:
        yield (node := waiting.pop())
        for attribute in node.messages(_ATTRIBUTE):
            for graph in (*attribute.messages(_SUBGRAPH), *attribute.messages(_SUBGRAPHS)):
                waiting += graph.messages(_NODE)


def _computed(source: Source, path: str, inputs: dict[str, Tensor], values: Sequence[str]) -> dict[str, Tensor]:
    memory_bytes, cpu_s = bounds(source, inputs.values())
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), Path(path).resolve()
        task = {
            "model": str(model), "folder": str(model.parent), "further": _outputs(values).hex(), "values": list(values),
            "inputs": list(inputs), "is_quantised": "quantisation" in source.dropped.values(),
            "memory_bytes": memory_bytes, "cpu_s": cpu_s,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(task))
        np.savez(folder / "inputs.npz", *(one.numpy() for one in inputs.values()))
        error = _ended(folder, cpu_s)
        if error:
            allowed = f"allowed are {memory_bytes >> 20} MB and {cpu_s} s for weights and inputs of these sizes"
            raise NotInterpretedError(f"ONNX Runtime refuses it ({error}); {allowed}")
        with np.load(folder / "outputs.npz") as found:
            names = json.loads((folder / "names.json").read_text())
            return {name: torch.from_numpy(found[f"arr_{index}"]) for index, name in enumerate(names)}


def bounds(source: Source, inputs: Iterable[Tensor]) -> tuple[int, int]:
    """The limits of a run: bytes of memory beyond those of the started process, and seconds of processor time."""
    weights = sum(4 * math.prod(tensor.shape) for tensor in source.tensors)
    given = sum(one.nbytes for one in inputs)
    return (_LEAST_BYTES + _BYTES_PER_WEIGHT * weights + _BYTES_PER_INPUT * given,
            _LEAST_S + (weights + given) // _BYTES_PER_S)  # fmt: skip


def _ended(folder: Path, cpu_s: int) -> str:
    """Run the process for a folder; return why there are no outputs, or an empty text if there are."""
    program = Path(onnx_process.__file__).read_text()
    try:
        subprocess.run(
            [sys.executable, "-c", program], cwd=folder, timeout=10 * cpu_s + _WAITING_S, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    if (folder / "error.txt").exists():
        return (folder / "error.txt").read_text()
    return "" if (folder / "outputs.npz").exists() else "it ended without outputs"


def _outputs(names: Sequence[str]) -> bytes:
    """The bytes that add outputs to a model: protobuf merges fields that are appended to a message."""
    infos = b"".join(_field(_OUTPUT, _field(_NAME, name.encode())) for name in names)
    return _field(_GRAPH, infos) if names else b""


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field with content of variable length."""
    size, rest = bytearray(), len(content)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes([number << 3 | 2, *size, rest]) + content


def _input(stated: SourceLayer, vocabulary: int, generator: torch.Generator) -> Tensor:
    shape, dtype = stated.config["shape"], stated.config["dtype"]
    sizes = [SAMPLES if index == 0 and not isinstance(size, int) else size for index, size in enumerate(shape)]
    if not all(isinstance(size, int) for size in sizes):
        raise NotInterpretedError(f"the input {stated.name!r} has the open shape {shape}")
    if not is_makeable(sizes):
        raise NotInterpretedError(f"the input {stated.name!r} has the shape {shape}")
    if dtype in _WHOLE:
        return torch.randint(0, max(vocabulary, 1), sizes, generator=generator).to(_WHOLE[dtype])
    if dtype not in _FLOATS:
        raise NotInterpretedError(f"the input {stated.name!r} is in {dtype}")
    return torch.randn(sizes, generator=generator).to(_FLOATS[dtype])


def _vocabulary(source: Source) -> int:
    """The number of rows of the smallest table that integer inputs may index."""
    tables = {layer.name for layer in source.layers if layer.kind == "Gather"}
    rows = [tensor.shape[0] for tensor in source.tensors if tensor.unit in tables and len(tensor.shape) == 2]
    return min(rows, default=1)
