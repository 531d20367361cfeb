"""Tensors in ONNX files, or in files with external data.

References:
    ONNX, `onnx/onnx.proto` (TensorProto) and `docs/ExternalData.md`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from frostline.porting.readers.folders import open_below
from frostline.porting.readers.tensor_data import DTYPES, num_bytes, tensor_of

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

DTYPE_NAMES = {  # by the dtype number of ONNX
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn",
    19: "float8_e5m2", 21: "uint8", 22: "int8",
}  # fmt: skip
_HALF_BYTES = {21: False, 22: True}  # UINT4, INT4: two elements in a byte; whether they are signed
# The field with the values of a dtype, if they are not in `raw_data`; int32_data for all other dtypes.
_FIELDS = {1: 4, 14: 4, 11: 10, 15: 10, 7: 7, 12: 11, 13: 11}
_FIXED = {4: "<f4", 10: "<f8"}
_INT32_DATA, _RAW_DATA, _EXTERNAL_DATA = 5, 9, 13
_VALUES = (4, 5, 6, 7, 10, 11)


class OnnxTensor:
    """One tensor. Its declared size is compared with the stored bytes at once; its values are read later.

    Args:
        file: The file that contains the tensor, or names the file with its data.
        message: A TensorProto.

    Attributes:
        name: Its name; empty for the value of a node.
        shape: Its shape.
        dtype: Its dtype in `tensor_data.DTYPES`; empty for strings and for dtypes that PyTorch does not have.
        kind: Its dtype number in ONNX.

    Raises:
        PortError: If its bytes are missing, or are stored twice.
    """

    def __init__(self, file: WeightFile, message: Message) -> None:
        self._file, self._message = file, message
        self._part: WeightFile | None = None  # the file with external data, when it was first opened
        self.name, self.kind = message.text(8), message.integer(2)
        self.shape = tuple(message.integers(1))
        self.dtype = DTYPE_NAMES.get(self.kind, "")
        self.num_elements = math.prod(self.shape)
        self.is_external = message.integer(14) == 1 or message.has(_EXTERNAL_DATA)
        if message.has(3):
            raise file.damaged(f"the tensor {self.name!r} in segments, which no version of ONNX wrote")
        if self.dtype:
            self._expected = num_bytes(file, self.shape, self.dtype)
            if self.kind in _HALF_BYTES:
                self._expected = (self._expected + 1) // 2
            self._check()

    @property
    def is_float(self) -> bool:
        """Whether its elements are floating-point or complex."""
        return bool(self.dtype) and (DTYPES[self.dtype].is_floating_point or DTYPES[self.dtype].is_complex)

    def load(self) -> Tensor:
        """The tensor."""
        raw = self._raw()
        if len(raw) != self._expected:
            raise self._file.damaged(f"{len(raw)} bytes of {self._expected} for {self.name!r} of shape {self.shape}")
        if self.kind in _HALF_BYTES:
            return _unpacked(raw, self.num_elements, is_signed=_HALF_BYTES[self.kind]).reshape(self.shape)
        return tensor_of(self._file, raw, self.shape, self.dtype)

    def _check(self) -> None:
        ways = [self._message.has(_RAW_DATA), self.is_external, *(self._message.has(field) for field in _VALUES)]
        if sum(ways) > 1:
            raise self._file.damaged(f"the tensor {self.name!r} whose values are stored twice")
        if self.is_external:
            self._place = self._external()
            return
        span = self._message.span(_RAW_DATA)
        if span is not None and span.size != self._expected:
            raise self._file.damaged(f"{span.size} bytes for {self.name!r} of shape {self.shape} in {self.dtype}")
        if span is None and self._expected > 8 * self._message.size:  # a value takes at least one byte
            raise self._file.damaged(f"{self.name!r} of shape {self.shape} in {self._message.size} bytes")

    def _raw(self) -> bytes | np.ndarray:
        if self.is_external:
            location, offset = self._place
            with open_below(self._file, location) as other:
                if self._part is not None and other.stamp != self._part.stamp:
                    raise self._part.changed(other.size)
                return other.array_at(offset, self._expected)
        span = self._message.span(_RAW_DATA)
        if span is not None:
            return span.array()
        field = _FIELDS.get(self.kind, _INT32_DATA)
        if field in _FIXED:
            return self._message.fixed(field, _FIXED[field])
        width = 1 if self.kind in _HALF_BYTES else DTYPES[self.dtype].itemsize
        return self._message.varints(field).astype(f"<u{width}").tobytes()

    def _external(self) -> tuple[str, int]:
        """The name of the file with the bytes, and their offset in it; both are checked."""
        fields = {pair.text(1): pair.text(2) for pair in self._message.messages(_EXTERNAL_DATA)}
        numbers = [fields.get(key, "0") for key in ("offset", "length")]
        if not all(text.isascii() and text.isdecimal() and len(text) < 20 for text in numbers):
            raise self._file.damaged(f"the tensor {self.name!r} with the offset and length {numbers} in another file")
        offset, length = int(numbers[0]), int(numbers[1])
        with open_below(self._file, fields.get("location", "")) as other:
            self._part = other
            length = length if "length" in fields else other.size - offset
            if length != self._expected or offset + length > other.size:
                raise self._file.damaged(
                    f"{self.name!r} needs {self._expected} bytes, but has {length} at byte {offset} of "
                    f"{fields['location']!r}, a file of {other.size} bytes"
                )
        return fields["location"], offset


def dequantised(values: Tensor, scale: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """Dequantise integers, as the operator DequantizeLinear does.

    Args:
        values: The integers.
        scale: One number, or one for each entry of `axis`.
        zero: The zero point, of the same shape as `scale`; None for 0.
        axis: The axis of `scale`.
    """
    if scale.numel() > 1:
        shape = [1] * values.dim()
        shape[axis] = -1
        scale, zero = scale.reshape(shape), None if zero is None else zero.reshape(shape)
    centred = values.to(torch.int64) - (0 if zero is None else zero.to(torch.int64))
    return centred.to(torch.float32) * scale.to(torch.float32)


def _unpacked(raw: bytes | np.ndarray, count: int, *, is_signed: bool) -> Tensor:
    """Unpack elements of four bits; the lower half of each byte comes first."""
    data = np.frombuffer(raw, dtype=np.uint8)
    halves = np.stack([data & 15, data >> 4], axis=1).reshape(-1)[:count]
    return torch.from_numpy(
        np.where(halves > 7, halves.astype(np.int8) - 16, halves).astype(np.int8) if is_signed else halves
    )
