"""Named tensors from files of weights: checkpoints of trainers, whatever they keep beside."""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from frostline.core.errors import DataError, nearest

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params", "module",
         "teacher", "state_dict_ema", "model_ema", "params_ema", "ema")  # fmt: skip
_HEAD_BYTES = 64
_TORCH_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # a zip archive, or the older format
_OTHERS = (
    (b"\x1f\x8b", "compressed by gzip", "unpack it (`gunzip FILE`), then pass the unpacked file."),
    (b"version https://git-lfs", "a pointer of Git LFS, which stands for the file",
     "fetch the file itself: `git lfs pull` in its repository."),
    (b"<!doctype", "a web page", "download the file itself: the address led to a page about it."),
    (b"<html", "a web page", "download the file itself: the address led to a page about it."),
)  # fmt: skip
_REFUSED = re.compile(r"GLOBAL (\S+)")


def read_weights(path: Path, key: str | None, notes: list[str]) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Args:
        path: A safetensors file, or a torch file; no code of the file is run.
        key: The entry that holds them, entries of entries joined with dots; None looks under the usual names.
        notes: Takes a line where an entry was chosen.

    Raises:
        DataError: If the file cannot be read, or has no such entry, or no tensors.
    """
    if path.suffix == ".json" and path.is_file():
        raise DataError(
            what="Cannot read weights from this file.", where=str(path), received="JSON, which only names other files",
            do="pass one of the files that it names, such as model-00001-of-00002.safetensors, one after the other.",
        )  # fmt: skip
    try:
        head = _head_of(path)
        _refuse_others(path, head)
        loaded: Any = load_file(path) if _is_safetensors(path, head) else _load_torch(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise _unreadable(path, told, is_folder=path.is_dir()) from error
    whole = loaded
    if key is not None:
        loaded = _entry(path, loaded, key)
    while isinstance(loaded, dict):
        held = [name for name in _KEYS if isinstance(loaded.get(name), dict)]
        if not held:
            break
        others = [repr(name) for name in _holders(loaded) if name != held[0]]
        also = f"; the file also holds {', '.join(others)} (key=...)" if others else ""
        notes.append(f"weights taken from {held[0]!r}{also}")
        loaded = loaded[held[0]]
    if not isinstance(loaded, dict):
        raise _unreadable(path, f"a {type(loaded).__name__} instead of named tensors")
    found = {str(name): torch.from_numpy(part) if isinstance(part, np.ndarray) else part
             for name, part in cast("dict[Any, Any]", loaded).items()}  # fmt: skip
    tensors = {name: part for name, part in found.items() if isinstance(part, Tensor)}
    if not tensors:
        raise DataError(
            what="The file holds no named tensors where they are looked for.", where=str(path),
            received=f"entries {', '.join(map(repr, list(found)[:8])) or 'of no name'}",
            do=f"say where they are: key={next(iter(_holders(whole)), 'NAME')!r}; dots lead into entries of entries.",
        )  # fmt: skip
    return tensors


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _is_safetensors(path: Path, head: bytes) -> bool:
    """By content, since files are renamed; by name where neither kind begins like this."""
    if head.startswith(_TORCH_STARTS):
        return False
    return path.suffix == ".safetensors" or head[8:9] == b"{"  # behind the length of the header


def _refuse_others(path: Path, head: bytes) -> None:
    """Refuse files that are no weights, and often lie where weights should: by what they are.

    Raises:
        DataError: It says what the file is, and what to do with it.
    """
    for start, name, remedy in _OTHERS:
        if head.lstrip().lower().startswith(start):
            raise DataError(
                what=f"This file does not hold weights: it is {name}.", where=str(path),
                received=f"a file that begins with {head[:16]!r}", do=remedy,
            )  # fmt: skip


def _holders(loaded: dict[Any, Any]) -> list[str]:
    """Names of the entries that hold tensors, entries of entries with dots."""
    found: list[str] = []
    for name, part in loaded.items():
        if not isinstance(part, dict):
            continue
        inner = cast("dict[Any, Any]", part)
        if any(isinstance(one, (Tensor, np.ndarray)) for one in inner.values()):
            found.append(str(name))
        else:
            found += [f"{name}.{deeper}" for deeper in _holders(inner)]
    return found


def _entry(path: Path, loaded: Any, key: str) -> dict[Any, Any]:
    known = _holders(loaded) if isinstance(loaded, dict) else []
    found, left = loaded, key
    while left and isinstance(found, dict):
        name = next((n for n in found if left == str(n) or left.startswith(f"{n}.")), None)
        if name is None:
            break
        found, left = found[name], left[len(str(name)) + 1 :]
    if left or not isinstance(found, dict):
        raise DataError(
            what=f"The file has no weights under {key!r}.", where=str(path), received=repr(key),
            do=f"pass key= one of {nearest(key, known)}." if known else "leave out key=: the file is flat.",
        )  # fmt: skip
    return cast("dict[Any, Any]", found)


def _harmless() -> list[Any]:
    """Classes that trainers put beside weights, and that do nothing but hold values."""
    core: Any = getattr(np, "_core", None) or np.core
    kinds = {type(np.dtype(name)) for name in ("bool", "u1", "i2", "i4", "i8", "f2", "f4", "f8", "U1")}
    makers = [
        (getattr(core.multiarray, name), f"numpy.{place}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for place in ("core", "_core")
    ]
    plain = [argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath, collections.defaultdict]
    return [*plain, *makers, np.ndarray, np.dtype, *kinds]


def _load_torch(path: Path) -> Any:
    from pickle import UnpicklingError

    if not _head_of(path).startswith(_TORCH_STARTS):
        raise ValueError("the file is neither a safetensors file nor one of torch")
    try:
        with path.open("rb") as file, torch.serialization.safe_globals(_harmless()):  # torch looks at names, too
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        name = _REFUSED.search(str(error))
        if name is None:
            raise ValueError("the file is damaged, or not one of torch") from error
        told = f"the file holds more than tensors (a {name[1]}), and running its code is not safe"
        raise ValueError(told) from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:  # bytes that are no file of torch
        raise ValueError("the file is damaged, or not one of torch") from error


def _unreadable(path: Path, received: str, *, is_folder: bool = False) -> DataError:
    return DataError(
        what="Cannot read weights from this file.", where=str(path), received=received,
        do=f"pass a file of the folder, such as {str(path / 'model.safetensors')!r}."
        if is_folder else
        "pass a safetensors file, or a torch file of tensors only: torch.save(model.state_dict(), path), where the "
        "file was made.",
    )  # fmt: skip
