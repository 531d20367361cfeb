"""Tensors in TensorFlow graphs.

References:
    TensorFlow, `core/framework/tensor.proto`: if there are fewer values than elements, the last one is repeated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from frostline.porting.readers.tensor_bundle import DTYPE_NAMES
from frostline.porting.readers.tensor_data import DTYPES, num_bytes, tensor_of

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

MAX_REPEATED_BYTES = 1 << 26  # size of a tensor that is stored as a single value
# The field with the values of a dtype, if they are not in `tensor_content`.
_FIELDS = {
    "float32": 5, "float64": 6, "int32": 7, "int16": 7, "int8": 7, "uint8": 7, "uint16": 7, "int64": 10, "bool": 11,
    "float16": 13, "bfloat16": 13, "uint32": 16, "uint64": 17, "complex64": 9, "complex128": 12,
}  # fmt: skip
_FIXED = {"float32": "<f4", "complex64": "<f4", "float64": "<f8", "complex128": "<f8"}


class TensorFlowTensor:
    """One tensor.

    Args:
        file: The file, for errors.
        message: A TensorProto of TensorFlow.

    Attributes:
        shape: Its shape.
        dtype: The number of its dtype in `tensor_bundle.DTYPE_NAMES`.
        is_number: Whether `dtype` is one of these; strings and resources are not.
        is_float: Whether its elements are floating-point or complex.
        num_elements: The number of its elements.
    """

    def __init__(self, file: WeightFile, message: Message) -> None:
        shape = message.message(2)
        self._file, self._message = file, message
        self.dtype = message.integer(1)
        self.shape = tuple(axis.integer(1) for axis in shape.messages(2)) if shape is not None else ()
        self.is_number = self.dtype in DTYPE_NAMES
        kind = DTYPES[DTYPE_NAMES[self.dtype]] if self.is_number else DTYPES["bool"]
        self.is_float = kind.is_floating_point or kind.is_complex
        self.num_elements = math.prod(self.shape)
        if self.is_number:
            self._check()

    def load(self) -> Tensor:
        """The tensor."""
        name, content = DTYPE_NAMES[self.dtype], self._message.span(4)
        raw = content.bytes() if content is not None and content.size else self._typed(name)
        return tensor_of(self._file, raw, self.shape, name)

    def _check(self) -> None:
        """Check that the stored values fit the shape, or are repeated to fit it."""
        name, content = DTYPE_NAMES[self.dtype], self._message.span(4)
        expected = num_bytes(self._file, self.shape, name)
        if content is not None and content.size:
            if content.size != expected:
                raise self._file.damaged(f"{content.size} bytes for a tensor of shape {self.shape} in {name}")
        elif expected > max(MAX_REPEATED_BYTES, 64 * self._message.size):
            raise self._file.damaged(f"a tensor of shape {self.shape} in {self._message.size} bytes")

    def _typed(self, name: str) -> bytes:
        if name not in _FIELDS:
            raise self._file.damaged(f"a tensor in {name} without its bytes")
        item, raw = DTYPES[name].itemsize, typed_values(self._message, name)
        missing = self.num_elements * item - len(raw)
        if missing <= 0:
            return raw
        last = raw[-item:] if len(raw) >= item else bytes(item)
        return raw + last * (missing // item)


def typed_values(message: Message, dtype: str) -> bytes:
    """The values in the field of a dtype, as bytes; empty for a dtype without a field."""
    if dtype in _FIXED:
        return message.fixed(_FIELDS[dtype], _FIXED[dtype])
    return message.varints(_FIELDS[dtype]).astype(f"<u{DTYPES[dtype].itemsize}").tobytes() if dtype in _FIELDS else b""
