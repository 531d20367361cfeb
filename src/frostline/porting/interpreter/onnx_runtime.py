"""What ONNX Runtime makes of a file: outputs to compare a module with, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.porting.interpreter.layer import NotInterpretedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.readers.contract import Source

SAMPLES = 3
_GRAPH, _OUTPUT, _NAME = 7, 12, 1  # numbers of fields: ModelProto.graph, GraphProto.output, ValueInfoProto.name
_FLOATS = {"tensor(float)": torch.float32, "tensor(double)": torch.float64, "tensor(float16)": torch.float16}
_WHOLE = {"tensor(int64)": torch.int64, "tensor(int32)": torch.int32}


def run(
    source: Source, path: str, seed: int = 0, values: Sequence[str] = ()
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Random inputs, and the outputs of the file's graph for them.

    The graph was parsed before, its external data checked; ONNX Runtime computes its operators, and no others.

    Args:
        source: The content of the file.
        path: Of the file.
        seed: Of the inputs.
        values: Names of values inside of the graph that are wanted instead of its outputs.

    Raises:
        NotInterpretedError: If ONNX Runtime is not installed, does not compute this graph, or a size is open.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise NotInterpretedError("ONNX Runtime is not installed (pip install 'frostline[port]')") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    folder = str(Path(path).resolve().parent)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if "quantisation" in source.dropped.values():
        # Its further optimizations compute products with dequantized weights in integers, 4e-3 off.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        model = _with_outputs(Path(path).read_bytes(), values) if values else path
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        generator = torch.Generator().manual_seed(seed)
        inputs = tuple(_input(one, _vocabulary(source), generator) for one in session.get_inputs())
        names = [one.name for one in session.get_inputs()]
        found = session.run(list(values) or None, {name: one.numpy() for name, one in zip(names, inputs, strict=True)})
    except NotInterpretedError:
        raise
    except Exception as error:  # its errors share no class
        raise NotInterpretedError(f"ONNX Runtime refuses it ({type(error).__name__})") from error
    arrays = (one for one in found if isinstance(one, np.ndarray))
    outputs = tuple(torch.from_numpy(one) for one in arrays if one.dtype.kind == "f")
    whole = tuple(one.long() if one.dtype == torch.int32 else one for one in inputs)
    return whole, outputs


def _with_outputs(model: bytes, values: Sequence[str]) -> bytes:
    """The model with further outputs: fields of messages that are appended to a message are added to it."""
    infos = b"".join(_field(_OUTPUT, _field(_NAME, name.encode())) for name in values)
    return model + _field(_GRAPH, infos)


def _field(number: int, content: bytes) -> bytes:
    """A field of a message of protobuf that holds bytes."""
    size, rest = bytearray(), len(content)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes([number << 3 | 2, *size, rest]) + content


def _input(wanted: Any, vocabulary: int, generator: torch.Generator) -> Tensor:
    sizes = [SAMPLES if index == 0 and not isinstance(size, int) else size for index, size in enumerate(wanted.shape)]
    if not all(isinstance(size, int) for size in sizes):
        raise NotInterpretedError(f"the input {wanted.name!r} has the open shape {wanted.shape}")
    if wanted.type in _WHOLE:
        return torch.randint(0, max(vocabulary, 1), sizes, generator=generator).to(_WHOLE[wanted.type])
    if wanted.type not in _FLOATS:
        raise NotInterpretedError(f"the input {wanted.name!r} is a {wanted.type}")
    return torch.randn(sizes, generator=generator).to(_FLOATS[wanted.type])


def _vocabulary(source: Source) -> int:
    """How many rows the smallest table has that inputs may choose from."""
    tables = {layer.name for layer in source.layers if layer.kind == "Gather"}
    rows = [tensor.shape[0] for tensor in source.tensors if tensor.unit in tables and len(tensor.shape) == 2]
    return min(rows, default=1)
