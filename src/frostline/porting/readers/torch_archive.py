"""Files of `torch.save` since PyTorch 1.6, and TorchScript: zip archives of a pickle and of raw memories."""

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
CONSTANTS = "CONSTANTS"  # the unit of tensors that stand in the code of a TorchScript archive
_PICKLE = "data.pkl"
_SCRIPT = ("constants.pkl", "code/")
_MAX_MODULES = 100_000


def claims(file: WeightFile) -> bool:
    """Whether it is a zip archive of one folder with a `data.pkl`."""
    return file.start(4) == SIGNATURE and _root_of(Archive(file)) is not None


def read(file: WeightFile, key: str | None) -> Source:
    """The tensors of a state dict, of a trainer's checkpoint, or of a TorchScript module.

    Args:
        file: The archive.
        key: The entry that holds the weights, such as `ema` or `nets.generator`; None looks under the usual names.

    Raises:
        PortError: If the archive is damaged, or its pickle asks for more than tensors.
    """
    archive = Archive(file)
    root = _root_of(archive)
    if root is None or not all(name.startswith(root) for name in archive.members):
        raise file.damaged("an archive of PyTorch with members outside of its folder")
    if any(name.removeprefix(root).startswith(_SCRIPT) for name in archive.members):
        return _script(file, archive, root, key)
    whole, rebuilder = _value(file, archive, root, _PICKLE, "data/", NAMES)
    chosen = find_weights(file, whole, key, rebuilder.array)
    return source_of(file, chosen, "PyTorch weights")


def source_of(file: WeightFile, chosen: CheckpointWeights, format_name: str) -> Source:
    """What a reader of PyTorch's files returns."""
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
    """The value of one pickle of the archive, and what turns its records into arrays."""
    content = archive.read(root + pickle)
    tape = Tape(file, lambda start, count: content[start : start + count], 0, len(content))
    whole = interpret(tape, allowed, REMEDY)
    if tape.at != tape.end:
        raise file.damaged(f"{tape.end - tape.at} bytes behind the end of {pickle}")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise file.damaged(f"the order of bytes {order[:20]!r}")

    def storage_of(identity: Any) -> Storage:
        return _storage(file, archive, f"{root}{folder}", identity, is_big_endian=order == b"big")

    return whole, TensorRebuilder(tape, storage_of)


def _storage(file: WeightFile, archive: Archive, folder: str, identity: Any, *, is_big_endian: bool) -> Storage:
    """A memory, whose size in the pickle is that of its member."""
    key, dtype, count = parts_of(file, identity)
    member = archive.members.get(folder + key)
    if member is None:
        raise file.damaged(f"a tensor in the memory {key!r}, which the archive does not have"[:200])
    if member.size != count * DTYPES[dtype].itemsize:
        raise file.damaged(f"the memory {key!r} of {count} elements of {dtype}, and {member.size} bytes of it")

    def read_at(start: int, size: int) -> bytes | np.ndarray:
        content = archive.array(folder + key)
        return content if size == len(content) else content[start : start + size]

    return Storage(key, dtype, member.size, read_at, is_big_endian)


def parts_of(file: WeightFile, identity: Any) -> tuple[str, str, int]:
    """Key, dtype and number of elements of a memory, from what the pickle says of it."""
    parts = cast("tuple[Any, ...]", identity) if isinstance(identity, tuple) else ()
    if len(parts) < 5 or parts[0] != "storage" or not isinstance(parts[1], Name) or not isinstance(parts[2], str):
        raise file.damaged(f"a memory of tensors that is described by {shown(identity)}")
    dtype = STORAGES.get(parts[1].text.rpartition(".")[2])
    if dtype is None or type(parts[4]) is not int or parts[4] < 0:
        raise file.damaged(f"a memory of tensors that is described by {shown(identity)}")
    return parts[2], dtype, parts[4]


def _ties(tensors: dict[str, LazyArray]) -> Iterator[str]:
    """A sentence on tensors that are the same memory, as tied weights are."""
    first: dict[object, str] = {}
    same = [
        (name, first.setdefault(held.memory, name))
        for name, held in tensors.items()
        if held.memory is not None and 0 not in held.shape
    ]
    tied = [f"{name!r} with {other!r}" for name, other in same if name != other]
    if tied:
        yield f"{len(tied)} tensors share their memory with another: {', '.join(tied[:3])}."


_SCRIPT_NAMES = NAMES | {
    f"torch.jit._pickle.{name}"
    for name in ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")
}


def _unpacked(tensors: dict[str, LazyArray]) -> Iterator[str]:
    """A sentence on tensors that are stored in another form than the usual one."""
    packed = [name for name, held in tensors.items() if held.is_unpacked]
    if packed:
        yield f"{len(packed)} sparse or quantised tensors were unpacked, such as {packed[0]!r}."


class _ScriptNames:
    """What the pickles of TorchScript may name: tensors, and classes whose code is not looked at."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name.startswith("__torch__.") or name in _SCRIPT_NAMES)


def _script(file: WeightFile, archive: Archive, root: str, key: str | None) -> Source:
    """A TorchScript module: its attributes, and the constants of its code, which is not read."""
    chosen: dict[str, LazyArray] = {}
    whole, rebuilder = _value(file, archive, root, _PICKLE, "data/", _ScriptNames())
    for name, value in _attributes(file, whole):
        held = rebuilder.array(value)
        if held is not None:
            chosen[name] = held
    notes = ["The file holds code (TorchScript), which was neither read nor run."]
    if f"{root}constants.pkl" in archive.members:
        constants, rebuilder = _value(file, archive, root, "constants.pkl", "constants/", _ScriptNames())
        for index, value in enumerate(constants if isinstance(constants, (tuple, list)) else ()):
            held = rebuilder.array(value)
            if held is not None:
                chosen[f"{CONSTANTS}.c{index}"] = held
    if not chosen:
        raise file.refused(
            "The file holds code and no tensors.", "a TorchScript module without parameters",
            "pass the file of the module whose weights you want.",
        )  # fmt: skip
    return source_of(file, CheckpointWeights(chosen, {}, tuple(notes), key), "TorchScript module")


def _attributes(file: WeightFile, whole: object) -> Iterator[tuple[str, object]]:
    """What the modules of a tree hold that is no module, by its path."""
    waiting: list[tuple[str, object]] = [("", whole)]
    num_modules = 0
    while waiting:
        path, module = waiting.pop()
        num_modules += 1
        if num_modules > _MAX_MODULES:
            raise file.damaged(f"a module of more than {_MAX_MODULES} modules, or that contains itself")
        state = module.state if isinstance(module, RecordedCall) else None
        inner: list[tuple[str, object]] = []
        for name, value in (cast("dict[Any, Any]", state) if isinstance(state, dict) else {}).items():
            place = f"{path}.{name}" if path else str(name)
            if isinstance(value, RecordedCall) and value.name.startswith("__torch__."):
                inner.append((place, value))
            else:
                yield place, value
        waiting += reversed(inner)
