"""Files of `torch.save` since PyTorch 1.6, and TorchScript: zip archives of a pickle and raw storages."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from frostline.porting.readers import state_dict
from frostline.porting.readers.checkpoint_entries import CheckpointWeights, find_weights
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.pickle_machine import Tape, interpret
from frostline.porting.readers.pickle_values import Name, RecordedCall, shown
from frostline.porting.readers.tensor_data import DTYPES, check_names
from frostline.porting.readers.torch_tensors import NAMES, REMEDY, STORAGES, Storage, TensorRebuilder
from frostline.porting.readers.zip_archive import SIGNATURE, Archive

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    import numpy as np

    from frostline.porting.readers.numpy_pickles import LazyArray
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
CONSTANTS = "CONSTANTS"  # the unit of constants in the code of a TorchScript archive
_PICKLE = "data.pkl"
_SCRIPT = ("constants.pkl", "code/")
_MAX_MODULES = 100_000


def claims(file: WeightFile) -> bool:
    """Whether the file is a zip archive of one folder with a `data.pkl`."""
    return file.start(4) == SIGNATURE and _root_of(Archive(file)) is not None


def read(file: WeightFile, key: str | None = None) -> Source:
    """The tensors of a state dict, of a trainer's checkpoint, or of a TorchScript module.

    Args:
        file: The archive.
        key: The entry that contains the weights, such as `ema` or `nets.generator`; None searches the usual names.

    Raises:
        PortError: If the archive is damaged, or its pickle contains more than tensors.
    """
    archive = Archive(file)
    root = _root_of(archive)
    if root is None or not all(name.startswith(root) for name in archive.members):
        raise file.damaged("a PyTorch archive with members outside of its folder")
    if any(name.removeprefix(root).startswith(_SCRIPT) for name in archive.members):
        return _script(file, archive, root, key)
    whole, rebuilder = _value(file, archive, root, _PICKLE, "data/", NAMES)
    chosen = find_weights(file, whole, key, rebuilder.array)
    return source_of(file, chosen, "PyTorch weights")


def source_of(file: WeightFile, chosen: CheckpointWeights, format_name: str) -> Source:
    """The content of a PyTorch file, from the weights that were found in it."""
    check_names(file, list(chosen.tensors))
    names = state_dict.named(file, list(chosen.tensors), chosen.prefix)
    tensors = tuple(
        SourceTensor(name, held.shape, held.dtype, *names.places[name], held.load)
        for name, held in chosen.tensors.items()
        if name in names.places
    )
    notes = (*chosen.notes, *names.notes, *_ties(chosen.tensors), *_unpacked(chosen.tensors))
    dropped = MappingProxyType({**chosen.dropped, **names.dropped})
    return Source(format_name, "torch", tensors, "file", dropped=dropped, notes=notes)


def _root_of(archive: Archive) -> str | None:
    """The folder of the archive's pickle; None if there is no such pickle."""
    found = [name for name in archive.members if name.endswith(f"/{_PICKLE}") and name.count("/") == 1]
    return found[0].removesuffix(_PICKLE) if len(found) == 1 else None


def _value(
    file: WeightFile, archive: Archive, root: str, pickle: str, folder: str, allowed: Container[str]
) -> tuple[Any, TensorRebuilder]:
    """The value of one pickle in the archive, and the object that converts its recorded calls to arrays."""
    content = archive.read(root + pickle)
    tape = Tape(file, lambda start, count: content[start : start + count], 0, len(content))
    whole = interpret(tape, allowed, REMEDY)
    if tape.at != tape.end:
        raise file.damaged(f"{tape.end - tape.at} bytes after the end of {pickle}")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise file.damaged(f"the unknown byte order {order[:20]!r}")

    def storage_of(identity: Any) -> Storage:
        return _storage(file, archive, f"{root}{folder}", identity, is_big_endian=order == b"big")

    return whole, TensorRebuilder(tape, storage_of)


def _storage(file: WeightFile, archive: Archive, folder: str, identity: Any, *, is_big_endian: bool) -> Storage:
    """A storage; its size in the pickle must be that of its member in the archive."""
    key, dtype, count = parts_of(file, identity)
    member = archive.members.get(folder + key)
    if member is None:
        raise file.damaged(f"a tensor in the storage {key!r}, which the archive does not contain"[:200])
    if member.size != count * DTYPES[dtype].itemsize:
        raise file.damaged(f"the storage {key!r} of {count} elements in {dtype}, with {member.size} bytes")

    def read_at(start: int, size: int) -> bytes | np.ndarray:
        content = archive.array(folder + key)
        return content if size == len(content) else content[start : start + size]

    return Storage(key, dtype, member.size, read_at, is_big_endian)


def parts_of(file: WeightFile, identity: Any) -> tuple[str, str, int]:
    """Key, dtype and number of elements of a storage, from its persistent identity."""
    parts = cast("tuple[Any, ...]", identity) if isinstance(identity, tuple) else ()
    if len(parts) < 5 or parts[0] != "storage" or not isinstance(parts[1], Name) or not isinstance(parts[2], str):
        raise file.damaged(f"a storage with the identity {shown(identity)}")
    dtype = STORAGES.get(parts[1].text.rpartition(".")[2])
    if dtype is None or type(parts[4]) is not int or parts[4] < 0:
        raise file.damaged(f"a storage with the identity {shown(identity)}")
    return parts[2], dtype, parts[4]


def _ties(tensors: dict[str, LazyArray]) -> Iterator[str]:
    """A note about tensors that share their storage, such as tied weights."""
    first: dict[object, str] = {}
    same = [
        (name, first.setdefault(held.memory, name))
        for name, held in tensors.items()
        if held.memory is not None and 0 not in held.shape
    ]
    tied = [f"{name!r} with {other!r}" for name, other in same if name != other]
    if tied:
        yield f"{len(tied)} tensors share their storage with another one: {', '.join(tied[:3])}."


_SCRIPT_NAMES = NAMES | {
    f"torch.jit._pickle.{name}"
    for name in ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")
}


def _unpacked(tensors: dict[str, LazyArray]) -> Iterator[str]:
    """A note about tensors that are stored as sparse or quantised ones."""
    packed = [name for name, held in tensors.items() if held.is_unpacked]
    if packed:
        yield f"{len(packed)} sparse or quantised tensors were converted to plain ones, such as {packed[0]!r}."


class _ScriptNames:
    """The names that pickles of TorchScript may contain: tensor functions, and classes, whose code is not read."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name.startswith("__torch__.") or name in _SCRIPT_NAMES)


def _script(file: WeightFile, archive: Archive, root: str, key: str | None) -> Source:
    """A TorchScript module: its attributes and the constants of its code; the code itself is not read."""
    chosen: dict[str, LazyArray] = {}
    whole, rebuilder = _value(file, archive, root, _PICKLE, "data/", _ScriptNames())
    for name, value in _attributes(file, whole):
        held = rebuilder.array(value)
        if held is not None:
            chosen[name] = held
    notes = ["The file contains code (TorchScript), which was neither read nor run."]
    if f"{root}constants.pkl" in archive.members:
        constants, rebuilder = _value(file, archive, root, "constants.pkl", "constants/", _ScriptNames())
        for index, value in enumerate(constants if isinstance(constants, (tuple, list)) else ()):
            held = rebuilder.array(value)
            if held is not None:
                chosen[f"{CONSTANTS}.c{index}"] = held
    if not chosen:
        raise file.refused(
            "The file contains code and no tensors.", "a TorchScript module without parameters",
            "pass the file of a module with parameters.",
        )  # fmt: skip
    return source_of(file, CheckpointWeights(chosen, {}, tuple(notes), key), "TorchScript module")


def _attributes(file: WeightFile, whole: object) -> Iterator[tuple[str, object]]:
    """The attributes of all modules in a tree, by path; submodules are traversed."""
    waiting: list[tuple[str, object]] = [("", whole)]
    num_modules = 0
    while waiting:
        path, module = waiting.pop()
        num_modules += 1
        if num_modules > _MAX_MODULES:
            raise file.damaged(f"more than {_MAX_MODULES} nested modules, or a module that contains itself")
        state = module.state if isinstance(module, RecordedCall) else None
        inner: list[tuple[str, object]] = []
        for name, value in (cast("dict[Any, Any]", state) if isinstance(state, dict) else {}).items():
            place = f"{path}.{name}" if path else str(name)
            if isinstance(value, RecordedCall) and value.name.startswith("__torch__."):
                inner.append((place, value))
            else:
                yield place, value
        waiting += reversed(inner)
