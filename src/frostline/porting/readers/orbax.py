"""Orbax checkpoints: the tree in `_METADATA`, and its arrays, which tensorstore reads.

The location of an array follows from its path in the tree and is compared with the files in the folder: no name in a
file is opened. The arrays are stored as zarr, in a database (OCDBT) or in one folder each. Since tensorstore opens
files itself, links in the folder are refused first, and the metadata of each array are checked before its
specification, which is built here, is passed to tensorstore.

References:
    Orbax documentation, "Checkpoint format guide"; tensorstore documentation, `ocdbt`, `zarr` and `zarr3`.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import strict_json, zarr
from frostline.porting.readers.contract import SourceTensor
from frostline.porting.readers.jax_tree import source
from frostline.porting.readers.tensor_data import DTYPES, check_names
from frostline.porting.readers.weight_file import stamp_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from frostline.porting.readers.contract import Source
    from frostline.porting.readers.weight_file import WeightFile
    from frostline.porting.readers.zarr import ZarrArray

HAS_ENTRIES = True
_DATABASE = "manifest.ocdbt"
_CHUNK = re.compile(r"(.*?)/(?:c(?:/\d+)*|\d+(?:[./]\d+)*)", re.DOTALL)
_MAX_FILES = 200_000
_MAX_RATIO = 4_096  # decompressed to compressed size; zstd reaches 30,000 for zeros, weights stay far below
_FLOOR_BYTES = 1 << 24
_SECONDS = 600.0


@dataclass(frozen=True)
class _Store:
    """The key-value store of a checkpoint.

    Attributes:
        file: The metadata file, for errors.
        keys: The keys of all entries.
        spec: The specification of the store for tensorstore.
        entries: The open store.
        size: The total size of all files in bytes.
    """

    file: WeightFile
    keys: frozenset[str]
    spec: Mapping[str, Any]
    entries: Any
    size: int

    def read(self, key: str) -> bytes:
        """The bytes of one entry."""
        try:
            return bytes(self.entries.read(key).result(timeout=_SECONDS).value)
        except (ValueError, OSError) as error:
            raise self.file.damaged(f"{key!r}: {str(error)[:200]}") from error

    def array(self, name: str) -> ZarrArray:
        """The metadata of an array; its size is compared with the size of the checkpoint."""
        if f"{name}/.zarray" in self.keys:
            found = zarr.version_2(self.file, name, self.read(f"{name}/.zarray"))
        elif f"{name}/zarr.json" in self.keys:
            found = zarr.version_3(self.file, name, self.read(f"{name}/zarr.json"))
        else:
            raise self.file.damaged(f"the tree names {name!r}, which the checkpoint does not contain")
        if found.num_bytes > _MAX_RATIO * self.size + _FLOOR_BYTES:
            raise self.file.damaged(f"{name!r} of {found.num_bytes} bytes in a checkpoint of {self.size} bytes")
        return found

    def load(self, name: str, array: ZarrArray) -> Tensor:
        """The values of an array."""
        driver = "zarr" if array.version == 2 else "zarr3"
        spec = {"driver": driver, "kvstore": _beneath(self.spec, f"{name}/")}
        try:
            opened = _tensorstore(self.file).open(spec, open=True, read=True).result(timeout=_SECONDS)
            if tuple(opened.shape) != array.shape:
                raise ValueError(f"the shape {opened.shape}")
            values = opened.read().result(timeout=_SECONDS)
            raw = torch.from_numpy(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
        except (ValueError, OSError) as error:
            raise self.file.damaged(f"{name!r}: {str(error)[:200]}") from error
        return raw.view(DTYPES[array.dtype]).reshape(array.shape)


def claims(file: WeightFile) -> bool:
    """Whether the file is the `_METADATA` of a checkpoint."""
    start = file.start(64).lstrip()
    return start.startswith(b"{") and b'"tree_metadata"' in start


def read(file: WeightFile, key: str | None = None) -> Source:
    """Read a checkpoint.

    Args:
        file: The file `_METADATA` of the checkpoint.
        key: The part of the tree to select, such as `ema_params`; None selects the parameters of the network.

    Raises:
        PortError: If the checkpoint is damaged, contains links, or stores arrays in an unsupported form.
    """
    stated = strict_json.parse(file, file.start(strict_json.MAX_BYTES + 1))
    tree = stated.get("tree_metadata") if isinstance(stated, dict) else None
    if not isinstance(tree, dict):
        raise file.damaged("metadata without a tree")
    paths = [path for entry in tree.values() if (path := _path(file, entry))]
    check_names(file, [".".join(path) for path in paths])
    store = _store(file)
    arrays: dict[tuple[str, ...], SourceTensor] = {}
    num_stored = Counter(found[1] for key in store.keys if (found := _CHUNK.fullmatch(key)))
    num_missing = 0
    for path in paths:
        array = store.array(name := ".".join(path))
        missing = max(0, array.num_chunks - num_stored[name])
        if missing and stated.get("store_array_data_equal_to_fill_value"):
            raise file.damaged(f"{missing} of {array.num_chunks} chunks of {name!r} are missing")
        num_missing += missing
        arrays[path] = _tensor(store, name, array)
    notes = (
        [f"{num_missing} chunks are not stored and were read as zeros, which Orbax leaves out."] if num_missing else []
    )
    found = source("Orbax checkpoint", arrays, key, notes)
    if found is None or not arrays:
        raise file.refused(
            "The checkpoint does not contain the requested entry.", f"{len(arrays)} arrays, and the key {key!r}",
            "leave the key out, or pass a part of the tree, such as 'params'.",
        )  # fmt: skip
    return found


def _tensor(store: _Store, name: str, array: ZarrArray) -> SourceTensor:
    return SourceTensor(name, array.shape, array.dtype, "", "", lambda: store.load(name, array))


def _path(file: WeightFile, entry: Any) -> tuple[str, ...]:
    """The path of an array; empty if the entry is not an array."""
    value = entry.get("value_metadata") if isinstance(entry, dict) else None
    keys = entry.get("key_metadata") if isinstance(entry, dict) else None
    if not isinstance(value, dict) or not isinstance(keys, list) or not keys:
        raise file.damaged(f"the entry {str(entry)[:60]} in the tree")
    if value.get("skip_deserialize") or value.get("value_type") in ("None", "string", "Dict", "List", "Tuple"):
        return ()
    path = tuple(str(item.get("key")) if isinstance(item, dict) else "" for item in keys)
    parts = [part for item in path for part in item.split("/")]
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise file.damaged(f"the path {'.'.join(path)[:100]!r}, which leads out of the checkpoint")
    return path


def _store(file: WeightFile) -> _Store:
    folder = file.real_path.parent
    names, size = _walked(file, folder)
    spec: dict[str, Any] = {"driver": "file", "path": f"{folder}/"}
    if _DATABASE in names:
        spec = {"driver": "ocdbt", "base": spec}
    try:
        entries = _tensorstore(file).KvStore.open(spec).result(timeout=_SECONDS)
        if _DATABASE in names:
            names = frozenset(key.decode() for key in entries.list().result(timeout=_SECONDS))
        return _Store(file, names, spec, entries, size)
    except (ValueError, OSError) as error:
        raise file.damaged(f"the database: {str(error)[:200]}") from error


def _walked(file: WeightFile, folder: Path) -> tuple[frozenset[str], int]:
    """The relative paths of all files in the folder, and their total size; links and devices are refused."""
    names: set[str] = set()
    size = 0
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)
            status = os.lstat(path)
            is_plain = stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)
            if not is_plain:
                raise file.refused(
                    "The checkpoint contains a link, a pipe or a device.", os.path.relpath(path, folder),
                    "fetch the checkpoint again from its origin; it must consist of regular files.",
                )  # fmt: skip
            if stat.S_ISREG(status.st_mode):
                names.add(own := os.path.relpath(path, folder))
                if own != file.real_path.name:
                    file.record(own, stamp_of(status))
                size += status.st_size
        if len(names) > _MAX_FILES:
            raise file.damaged(f"a checkpoint of more than {_MAX_FILES} files")
    return frozenset(names), size


def _beneath(spec: Mapping[str, Any], path: str) -> dict[str, Any]:
    if spec["driver"] == "file":
        return {**spec, "path": spec["path"] + path}
    return {**spec, "path": path}


def _tensorstore(file: WeightFile) -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise PortError(
            what="Reading Orbax checkpoints requires tensorstore, which is not installed.", where=str(file.path),
            received=str(error), do="pip install 'frostline[port]'",
        ) from error  # fmt: skip
    return tensorstore
