"""NumPy arrays in pickles, which trainers and PaddlePaddle write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from frostline.porting.readers.pickle_values import RecordedCall, Span
from frostline.porting.readers.tensor_data import DTYPES, num_bytes, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from frostline.porting.readers.pickle_machine import Tape

PLACES = ("numpy.core", "numpy._core")  # module names before and since NumPy 2
NAMES = frozenset(
    {f"{place}.multiarray.{name}" for place in PLACES for name in ("_reconstruct", "scalar")}
    | {f"{place}.numeric._frombuffer" for place in PLACES}
    | {"numpy.ndarray", "numpy.dtype", "_codecs.encode", "builtins.bytes", "__builtin__.bytes", "builtins.bytearray"}
)
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
_CODE = re.compile(r"([<>=|]?)([fiucb])(\d{1,2})")


class LazyArray(NamedTuple):
    """An array in a file whose values are read on demand.

    Attributes:
        shape: Its shape.
        dtype: PyTorch's name of its dtype.
        load: Reads the array.
        memory: The identity of its memory: equal for two arrays only if they are the same elements of the same storage.
        is_unpacked: Whether it is stored as a sparse or quantised tensor.
    """

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Tensor]
    memory: object
    is_unpacked: bool = False


def array_of(tape: Tape, made: RecordedCall) -> LazyArray | None:
    """The array that a recorded call creates; None for arrays of strings or objects, which are not weights.

    Raises:
        PortError: If the call is inconsistent.
    """
    wrong = tape.file.damaged("a NumPy array with inconsistent arguments")
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
    # In UTF-8 each of the characters for bytes takes one or two bytes.
    is_whole = expected <= size <= 2 * expected if isinstance(raw, Span) and raw.is_text else size == expected
    if not is_whole:
        raise tape.file.damaged(f"{size} bytes for an array of shape {shape[:8]} in {name}; {expected} are needed")

    def load() -> Tensor:
        stored = tuple(reversed(shape)) if is_fortran else shape
        found = tensor_of(tape.file, _bytes_of(tape, raw), stored, name, is_big_endian=is_big_endian)
        return found.permute(*reversed(range(len(shape)))).contiguous() if is_fortran else found

    return LazyArray(shape, name, load, (id(made),))


def _dtype_of(dtype: object) -> tuple[str, bool] | None:
    """PyTorch's name of a NumPy dtype, and whether the most significant byte comes first; None if it is unsupported."""
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
    stored = tape.read_at(raw.start, raw.size)
    if not raw.is_text:
        return stored
    try:
        return stored.decode().encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise tape.file.damaged("bytes that are written as a string and are not Latin-1") from error
