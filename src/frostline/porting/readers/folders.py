"""Paths that are not files (folders and checkpoint prefixes), and the file to read for each of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.readers.weight_file import WeightFile

if TYPE_CHECKING:
    from collections.abc import Iterator

# The file to read for a whole folder. If one file is an index of others, the index is read.
_FOLDER_FILES = (
    "saved_model.pb", "_METADATA", "model.json", "model.safetensors.index.json", "model.safetensors",
    "pytorch_model.bin.index.json", "pytorch_model.bin", "flax_model.msgpack.index.json", "flax_model.msgpack",
    "tf_model.h5.index.json", "tf_model.h5", "model.weights.json", "model.weights.h5", "model.onnx",
)  # fmt: skip
_SHARD = re.compile(r"(.*)\.(?:data-\d{5}-of-\d{5}|meta)")
_MAX_FILES = 100_000
_MAX_DEPTH = 2  # Orbax's CheckpointManager writes `10/default/_METADATA`


def weight_path(path: Path) -> Path:
    """The file to read for `path`.

    Args:
        path: A file; the prefix or another file of a TensorFlow checkpoint (`model.ckpt`); or a folder: a
            SavedModel, an Orbax checkpoint, a TensorFlow.js model, or any other folder with one file of weights.

    Raises:
        PortError: If a folder contains no file of weights, or several.
    """
    if path.is_dir():
        return _of_folder(path)
    shard = _SHARD.fullmatch(path.name)
    index = path.with_name((shard[1] if shard else path.name) + ".index")
    if (shard or not path.exists()) and index.is_file():
        return index
    variables = path.parent / "variables" / "variables.index"
    return variables if path.name == "saved_model.pb" and variables.is_file() else path


def open_below(file: WeightFile, name: str) -> WeightFile:
    """Open a file in or below the folder of `file`; links are not followed.

    Args:
        file: The file that names the other one.
        name: The path of the other file from the folder of `file`, with `/` as the separator.

    Raises:
        PortError: If the path is absolute, contains `..` or a link, or the file has a second hard link.
    """
    refused = file.refused(
        "The file of weights names a file outside of its folder.", repr(name),
        "download all files again into one folder, as files and not as links.",
    )  # fmt: skip
    parts = name.removeprefix("./").split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts) or Path(name).is_absolute():
        raise refused
    other = WeightFile(file.path.parent.joinpath(*parts))
    folder = file.real_path.parent
    # A download cache may contain links into one folder of its own; a link to any other place is an attack.
    is_inside = other.real_path == folder.joinpath(*parts) or other.real_path.parent == folder
    if not is_inside or other.num_links > 1:
        other.close()
        raise refused
    file.record("/".join(parts), other.stamp)
    return other


def _of_folder(folder: Path) -> Path:
    candidates = list(_candidates(folder, 0))
    if len(candidates) == 1:
        return weight_path(candidates[0])
    listed = ", ".join(str(path.relative_to(folder)) for path in candidates[:5])
    if candidates:
        raise PortError(
            what="The folder contains several files of weights.", where=str(folder), received=listed,
            do="pass the path of the file to port.",
        )  # fmt: skip
    raise PortError(
        what="The folder contains no file with a known name of a file of weights.", where=str(folder),
        received=", ".join(sorted(os.listdir(folder))[:5]) or "an empty folder",
        do="pass the path of the file itself.",
    )  # fmt: skip


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    """The files that represent `folder`; its subfolders are searched only if the folder itself has none."""
    names = sorted(os.listdir(folder))[:_MAX_FILES]
    found = [name for name in names if name in _FOLDER_FILES or name.endswith(".index")]
    if "checkpoint" in names and (latest := _latest(folder / "checkpoint", found)):
        found = [latest]
    found = [name for name in found if f"{name}.index.json" not in found]
    for name in found:
        if (folder / name).is_file():
            yield folder / name
    if not found and depth < _MAX_DEPTH:
        for name in names:
            if (folder / name).is_dir() and not (folder / name).is_symlink():
                yield from _candidates(folder / name, depth + 1)


def _latest(path: Path, names: list[str]) -> str | None:
    """The entry of `names` that TensorFlow's file `checkpoint` states as the latest one; None if it states none."""
    if not path.is_file():
        return None
    with WeightFile(path) as file:
        text = file.start(1 << 16).decode(errors="replace")
    found_path = re.search(r'^model_checkpoint_path: "(?:.*/)?([^"/]*)"', text, re.MULTILINE)
    return f"{found_path[1]}.index" if found_path and f"{found_path[1]}.index" in names else None
