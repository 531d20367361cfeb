"""Tensors in the pickles of PyTorch: views of storages."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from frostline.porting.readers import numpy_pickles
from frostline.porting.readers.numpy_pickles import LazyArray
from frostline.porting.readers.pickle_values import Name, Persistent, RecordedCall, shown
from frostline.porting.readers.tensor_data import DTYPES, num_bytes, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from frostline.core.errors import PortError
    from frostline.porting.readers.pickle_machine import Tape
    from frostline.porting.readers.weight_file import WeightFile

STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "QInt8Storage": "int8", "QUInt8Storage": "uint8", "QInt32Storage": "int32",
    "UntypedStorage": "uint8",
}  # fmt: skip
_QUANTISED = {"int8": torch.qint8, "uint8": torch.quint8, "int32": torch.qint32}
_REBUILDS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
             "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_tensor",
             "_rebuild_meta_tensor_no_storage", "_rebuild_device_tensor_from_numpy")  # fmt: skip
_SCHEMES = ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
            "per_channel_affine_float_qparams")  # fmt: skip
# Classes that trainers store beside weights, and containers of plain values.
_BESIDE = {
    "argparse.Namespace", "types.SimpleNamespace", "collections.Counter", "collections.OrderedDict",
    "collections.defaultdict", "datetime.datetime", "datetime.date", "datetime.timedelta", "torch.Size", "torch.device",
    "torch.torch_version.TorchVersion", "torch.serialization._get_layout",
} | {
    f"{place}.{name}"
    for place in ("builtins", "__builtin__")
    for name in ("set", "frozenset", "complex", "bytearray", "bytes", "list", "dict", "int", "float", "str", "bool")
} | {
    f"{place}.{name}"
    for place in ("pathlib", "pathlib._local")
    for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
}  # fmt: skip
_PLAIN_TYPES = {"torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"}
NAMES = frozenset(
    numpy_pickles.NAMES | _BESIDE | _PLAIN_TYPES | {"torch._tensor._rebuild_from_type_v2"}
    | {f"torch._utils.{name}" for name in _REBUILDS}
    | {f"torch.{name}" for name in (*DTYPES, *_SCHEMES)}
    | {f"{place}.{name}" for place in ("torch", "torch.cuda", "torch.storage") for name in STORAGES}
)  # fmt: skip
REMEDY = "where the file was made, save the tensors alone: torch.save(model.state_dict(), path)."
# A tensor may have more elements than its storage (`expand`) or than stored values (sparse); this is bounded, so that a
# small file cannot fill the memory.
_MAX_GROWTH, _FLOOR_BYTES = 64, 1 << 26


class Storage(NamedTuple):
    """The storage of tensors.

    Attributes:
        key: Its name in the file.
        dtype: PyTorch's name of the dtype of its elements.
        size: Its size in bytes.
        read: Returns `count` of its bytes from an offset.
        is_big_endian: Whether the most significant byte of an element comes first.
    """

    key: str
    dtype: str
    size: int
    read: Callable[[int, int], bytes | np.ndarray]
    is_big_endian: bool


class TensorRebuilder:
    """Converts recorded calls to arrays.

    Args:
        tape: The bytes of the pickle.
        storage_of: Returns the storage with a persistent identity.
    """

    def __init__(self, tape: Tape, storage_of: Callable[[Any], Storage]) -> None:
        self._tape, self._file, self._storage_of = tape, tape.file, storage_of

    def array(self, value: object) -> LazyArray | None:
        """The array that a value represents; None if the value is not a tensor.

        Raises:
            PortError: If the tensor is inconsistent, or of an unsupported kind.
        """
        for _ in range(4):  # a parameter around a subclass around a tensor
            if not isinstance(value, RecordedCall):
                return None
            name, given = value.name, value.arguments
            if name.startswith("torch._utils._rebuild_parameter") or name.endswith("_from_numpy"):
                value = self._first(given)
            elif name == "torch._tensor._rebuild_from_type_v2":
                value = self._inside(given)
            else:
                return self._tensor(value)
        return None

    def _first(self, given: tuple[Any, ...]) -> object:
        if not given:
            raise self._wrong("a parameter without a tensor")
        return given[0]

    def _inside(self, given: tuple[Any, ...]) -> RecordedCall:
        """The recorded call of the tensor inside of a tensor with attributes."""
        if len(given) != 4 or not isinstance(given[0], Name) or not isinstance(given[2], tuple):
            raise self._wrong("a tensor with attributes, without the tensor")
        if not isinstance(given[1], Name) or given[1].text not in _PLAIN_TYPES:
            raise self._file.refused("The file contains a tensor of an unsupported class.", shown(given[1]), REMEDY)
        return RecordedCall(given[0].text, cast("tuple[Any, ...]", given[2]))

    def _tensor(self, made: RecordedCall) -> LazyArray | None:
        given = list(made.arguments)
        name = made.name.removeprefix("torch._utils.")
        try:
            if name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
                self._refuse_flags(given[6] if len(given) > 6 else None)
                return self._view(*given[:4])
            if name == "_rebuild_tensor_v3":
                self._refuse_flags(given[7] if len(given) > 7 else None)
                return self._view(*given[:4], dtype=self._dtype(given[6]))
            if name == "_rebuild_qtensor":
                return self._quantised(*given[:5])
            if name == "_rebuild_sparse_tensor":
                return self._sparse(given[0], given[1])
            if name == "_rebuild_meta_tensor_no_storage":
                return self._without_values(self._dtype(given[0]), self._sizes(given[1]))
        except (IndexError, TypeError, ValueError) as error:
            raise self._wrong(f"a tensor with missing arguments ({name})") from error
        return numpy_pickles.array_of(self._tape, made)

    def _wrong(self, received: str) -> PortError:
        return self._file.damaged(received)

    def _refuse_flags(self, metadata: Any) -> None:
        if metadata:
            raise self._file.refused(
                "The file contains a conjugated or negated view of a tensor, which is not supported.", shown(metadata),
                "where the file was made, save `tensor.resolve_conj().resolve_neg()`.",
            )  # fmt: skip

    def _dtype(self, value: Any) -> str:
        if not isinstance(value, Name) or value.text.removeprefix("torch.") not in DTYPES:
            raise self._wrong(f"a tensor of the unknown dtype {shown(value)}")
        return value.text.removeprefix("torch.")

    def _sizes(self, value: Any) -> tuple[int, ...]:
        if isinstance(value, RecordedCall) and value.name == "torch.Size" and value.arguments:
            value = value.arguments[0]
        if not isinstance(value, (tuple, list)) or any(type(one) is not int or one < 0 for one in value):
            raise self._wrong(f"a tensor of the size or stride {shown(value)}")
        return tuple(value)

    def _view(self, memory: Any, offset: Any, shape: Any, stride: Any, *, dtype: str | None = None) -> LazyArray:
        """A view of a storage; all of its elements must lie in the storage."""
        if not isinstance(memory, Persistent):
            raise self._wrong("a tensor without a storage")
        storage = self._storage_of(memory.identity)
        dtype = dtype or storage.dtype
        width = DTYPES[dtype].itemsize
        shape, stride = self._sizes(shape), self._sizes(stride)
        if len(shape) != len(stride) or type(offset) is not int or offset < 0:
            raise self._wrong(f"a tensor of shape {shape[:8]}, strides {stride[:8]} and offset {shown(offset)}"[:200])
        is_empty = 0 in shape
        count = 0 if is_empty else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if not is_empty and (offset + count) * width > storage.size:
            raise self._wrong(
                f"a tensor that ends at byte {(offset + count) * width} of a storage of {storage.size} bytes"
            )
        check_growth(self._file, num_bytes(self._file, shape, dtype), storage.size)

        def load() -> Tensor:
            raw = storage.read(offset * width if count else 0, count * width)
            flat = tensor_of(self._file, raw, (count,), dtype, is_big_endian=storage.is_big_endian)
            if stride == _dense_strides(shape) or is_empty:
                return flat.reshape(shape)
            return torch.as_strided(flat, shape, stride).clone(memory_format=torch.contiguous_format)

        return LazyArray(shape, dtype, load, (storage.key, offset, shape, stride, dtype))

    def _quantised(self, memory: Any, offset: Any, shape: Any, stride: Any, settings: Any) -> LazyArray:
        """The dequantised values of a quantised tensor."""
        values, scheme = self._view(memory, offset, shape, stride), settings[0]
        if not isinstance(scheme, Name) or values.dtype not in _QUANTISED:
            raise self._wrong("a quantised tensor without a quantisation scheme")
        axis, numbers = None, (settings[1], settings[2])
        if "per_channel" in scheme.text:
            axis = settings[3]
            scales, zeros = (self.array(part) for part in numbers)
            if scales is None or zeros is None or type(axis) is not int or not 0 <= axis < len(values.shape):
                raise self._wrong("a quantised tensor without its scales")
            if {scales.shape, zeros.shape} != {(values.shape[axis],)}:
                raise self._wrong("a quantised tensor whose number of scales is not its number of channels")
        elif type(numbers[0]) is not float or type(numbers[1]) is not int:
            raise self._wrong("a quantised tensor without its scale")

        def load() -> Tensor:
            whole = values.load()
            if axis is None:  # PyTorch stores the scale of a tensor as float32, and those of channels unchanged
                scale, zero = torch.tensor(numbers[0]), torch.tensor(numbers[1])
            else:
                along = [-1 if at == axis else 1 for at in range(whole.dim())]
                scale, zero = (cast("LazyArray", self.array(part)).load().reshape(along) for part in numbers)
            return ((whole.double() - zero) * scale.double()).float()

        return LazyArray(values.shape, "float32", load, None, is_unpacked=True)

    def _sparse(self, layout: Any, data: Any) -> LazyArray:
        """A sparse tensor, as a dense one."""
        text = layout.arguments[0] if isinstance(layout, RecordedCall) and layout.arguments else ""
        is_coo = text == "torch.sparse_coo"
        parts = [self.array(part) for part in data[: 2 if is_coo else 3]]
        shape = self._sizes(data[len(parts)])
        kind = {f"torch.sparse_{name}": getattr(torch, f"sparse_{name}") for name in ("csr", "csc", "bsr", "bsc")}
        if any(part is None for part in parts) or not (is_coo or text in kind):
            raise self._wrong(f"a sparse tensor with the layout {shown(text)}")
        held = cast("list[LazyArray]", parts)
        dtype = held[-1].dtype
        stored = sum(num_bytes(self._file, part.shape, part.dtype) for part in held)
        check_growth(self._file, num_bytes(self._file, shape, dtype), stored)

        def load() -> Tensor:
            loaded = [part.load() for part in held]
            try:
                if is_coo:
                    return torch.sparse_coo_tensor(loaded[0], loaded[1], shape, check_invariants=True).to_dense()
                first, second, values = loaded
                with warnings.catch_warnings():  # PyTorch warns once per process that CSR support is in beta
                    warnings.filterwarnings("ignore", "Sparse .* tensor support is in beta", UserWarning)
                    return torch.sparse_compressed_tensor(
                        first, second, values, shape, layout=kind[text], check_invariants=True
                    ).to_dense()
            except (RuntimeError, IndexError) as error:
                raise self._wrong("a sparse tensor with indices outside of its shape") from error

        return LazyArray(shape, dtype, load, None, is_unpacked=True)

    def _without_values(self, dtype: str, shape: tuple[int, ...]) -> LazyArray:
        def load() -> Tensor:
            raise self._file.refused(
                "The file contains names and shapes of weights, but no values.", "a tensor of the meta device",
                "load the weights into the model before it is saved.",
            )  # fmt: skip

        return LazyArray(shape, dtype, load, None)


def check_growth(file: WeightFile, wanted: int, stored: int) -> None:
    """Refuse a tensor that needs much more memory than the file stores for it.

    Raises:
        PortError: If the ratio is too large.
    """
    if wanted > max(_FLOOR_BYTES, _MAX_GROWTH * stored):
        raise file.damaged(f"a tensor of {wanted} bytes, of which {stored} are stored")


def _dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
