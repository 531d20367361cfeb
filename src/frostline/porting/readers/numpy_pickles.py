"""What the pickles of NumPy mean: arrays, as trainers and PaddlePaddle write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from frostline.porting.readers.pickle_values import RecordedCall, Span
from frostline.porting.readers.tensor_data import DTYPES, num_bytes, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from frostline.porting.readers.pickle_machine import Tape

PLACES = ("numpy.core", "numpy._core")  # before and since NumPy 2
NAMES = frozenset(
    {f"{place}.multiarray.{name}" for place in PLACES for name in ("_reconstruct", "scalar")}
    | {f"{place}.numeric._frombuffer" for place in PLACES}
    | {"numpy.ndarray", "numpy.dtype", "_codecs.encode", "builtins.bytes", "__builtin__.bytes", "builtins.bytearray"}
)
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
_CODE = re.compile(r"([<>=|]?)([fiucb])(\d{1,2})")


class LazyArray(NamedTuple):
    """An array that a pickle holds: it is read when it is asked for.

    Attributes:
        shape: Of the array.
        dtype: PyTorch's name of its dtype.
        load: Reads it.
        memory: Equal for two arrays only if they are the same elements of the same memory.
        is_unpacked: Whether it is stored as a sparse or quantised tensor.
    """

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Tensor]
    memory: object
    is_unpacked: bool = False


def array_of(tape: Tape, made: RecordedCall) -> LazyArray | None:
    """The array that a record stands for; None for one of texts or objects, which is no weight.

    Raises:
        PortError: If the record contradicts itself.
    """
    wrong = tape.file.damaged("an array of NumPy whose parts contradict each other")
    if made.name.endswith("._frombuffer"):
        if len(made.arguments) != 4:
            raise wrong
        raw, dtype, shape, order = made.arguments
        if isinstance(raw, RecordedCall) and raw.name == "builtins.bytearray" and raw.arguments:
            raw = raw.arguments[0]
        is_fortran = order == "F"
    elif made.name.endswith("._reconstruct"):
        if not isinstance(made.state, tuple) or len(made.state) != 5:
            raise wrong
        _, shape, dtype, is_fortran, raw = made.state
    else:
        return None
    kind = _dtype_of(dtype)
    if kind is None:
        return None
    if not isinstance(shape, tuple) or any(type(size) is not int for size in shape):
        raise wrong
    if not isinstance(raw, (bytes, Span)):
        raise wrong
    name, is_big_endian = kind
    expected = num_bytes(tape.file, shape, name)
    size = raw.size if isinstance(raw, Span) else len(raw)
    # A character that stands for one byte takes one or two.
    is_whole = expected <= size <= 2 * expected if isinstance(raw, Span) and raw.is_text else size == expected
    if not is_whole:
        raise tape.file.damaged(f"{size} bytes for an array of shape {shape[:8]} in {name}, which needs {expected}")

    def load() -> Tensor:
        stored = tuple(reversed(shape)) if is_fortran else shape
        found = tensor_of(tape.file, _bytes_of(tape, raw), stored, name, is_big_endian=is_big_endian)
        return found.permute(*reversed(range(len(shape)))).contiguous() if is_fortran else found

    return LazyArray(shape, name, load, (id(made),))


def _dtype_of(dtype: object) -> tuple[str, bool] | None:
    """PyTorch's name, and whether the most significant byte comes first."""
    if not isinstance(dtype, RecordedCall) or dtype.name != "numpy.dtype" or not dtype.arguments:
        return None
    code = _CODE.fullmatch(str(dtype.arguments[0]))
    if code is None:
        return None
    name = "bool" if code[2] == "b" else f"{_KINDS[code[2]]}{8 * int(code[3])}"
    order: Any = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else code[1]
    return (name, order == ">") if name in DTYPES else None


def _bytes_of(tape: Tape, raw: bytes | Span) -> bytes:
    if isinstance(raw, bytes):
        return raw
    held = tape.read_at(raw.start, raw.size)
    if not raw.is_text:
        return held
    try:
        return held.decode().encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise tape.file.damaged("bytes written as a text that stands for none") from error
