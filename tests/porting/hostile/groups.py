"""Rows 30 to 36: HDF5, and the configuration of `.keras`."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .case import FILES, built
from .containers import DAMAGED

NOT = "uses a feature that no file of weights needs"


def _file(folder: Path) -> h5py.File:
    """A file that looks like weights of Keras 3."""
    file = h5py.File(folder / "a.weights.h5", "w")
    file.create_group("layers/dense/vars")["0"] = np.ones((2, 2), np.float32)
    return file


def _with(row: int, what: str, says: str, change: Any) -> None:
    @built(row, what, says)
    def build(folder: Path) -> Path:
        (folder / "secret").write_bytes(b"secret!!")
        with h5py.File(folder / "other.h5", "w") as other:
            other["a"] = np.ones(3, np.float32)
        with _file(folder) as file:
            change(file["layers/dense/vars"], folder)
        return folder / "a.weights.h5"


def _virtual(group: h5py.Group, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "a", shape=(3,))
    group.create_virtual_dataset("1", layout)


def _assign(name: str, value: Any) -> Any:
    return lambda group, folder: group.__setitem__(name, value(group, folder))


def _many(group: h5py.Group, _: Path) -> None:
    for number in range(3):
        group.create_dataset(str(number + 1), (1_000_000, 1_000_000), "f4", chunks=(1024, 1024), compression="gzip")


_with(30, "bytes of another file", "in another file", lambda group, folder: group.create_dataset(
    "1", (8,), "u1", external=[(str(folder / "secret"), 0, 8)]))  # fmt: skip
_with(31, "a link to another file", "a soft or external link",
      _assign("1", lambda _, folder: h5py.ExternalLink(str(folder / "other.h5"), "/a")))  # fmt: skip
_with(31, "a soft link", "a soft or external link", _assign("1", lambda *_: h5py.SoftLink("/layers/dense/vars/0")))
_with(32, "a virtual dataset", "in another file", _virtual)
_with(33, "4 TB declared and none stored", DAMAGED, _many)
_with(33, "one chunk of 4 TB stored", DAMAGED, lambda group, _: group.create_dataset(
    "1", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10), compression="gzip").__setitem__((0, 0), 1))  # fmt: skip
_with(34, "a group that contains itself", "a second link to an object, or part of a cycle",
      _assign("again", lambda group, _: group))  # fmt: skip
_with(
    34,
    "compound elements",
    "has elements of the type",
    _assign("1", lambda *_: np.zeros(2, [("a", "i4"), ("b", "f4")])),
)
_with(34, "opaque elements", "has elements of the type", _assign("1", lambda *_: np.zeros(2, "V3")))
_with(34, "texts of any length", "has elements of the type", lambda group, _: group.create_dataset(
    "1", data=["text"], dtype=h5py.string_dtype()))  # fmt: skip
_with(
    34,
    "references",
    "has elements of the type reference",
    lambda group, _: group.create_dataset("1", data=group.ref, dtype=h5py.ref_dtype),
)
_with(34, "a filter of another library", "needs the filters", lambda group, _: group.create_dataset(
    "1", data=np.arange(5000), compression="lzf"))  # fmt: skip


def _deep(group: h5py.Group, _: Path) -> None:
    for _ in range(200):
        group = group.create_group("a")


_with(34, "groups 200 deep", NOT + "|damaged", _deep)


@built(35, "a heap of 2^63 bytes", DAMAGED)
def _heap(folder: Path) -> Path:
    content = bytearray((FILES / "keras_h5" / "weights.h5").read_bytes())
    at = content.index(b"HEAP") + 8
    content[at : at + 8] = b"\xff" * 7 + b"\x7f"
    (folder / "a.h5").write_bytes(content)
    return folder / "a.h5"


@built(35, "a tree that points at itself", DAMAGED)
def _tree(folder: Path) -> Path:
    content = bytearray((FILES / "keras_h5" / "weights.h5").read_bytes())
    at = content.index(b"TREE")
    content[at + 5] = 1  # a level above leaves
    content[at + 32 : at + 40] = at.to_bytes(8, "little")
    (folder / "a.h5").write_bytes(content)
    return folder / "a.h5"


def _archive(folder: Path, layer: dict[str, Any]) -> Path:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("layers/dense/vars")["0"] = np.ones((2, 2), np.float32)
    dense = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "dense", "units": 2}}
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [dense, layer]}}
    with zipfile.ZipFile(folder / "a.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", buffer.getvalue())
    return folder / "a.keras"


_CODE = {"class_name": "__lambda__", "config": {"code": "4wEAAA=="}}
for _what, _layer, _note in (
    ("a Lambda", {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "x", "function": _CODE}},
     "code in 'x' .Lambda.; it was not executed"),
    ("a class from elsewhere", {"module": "os", "class_name": "system", "config": {"name": "x"}},
     "custom class .os.system., which was not imported"),
    ("a registered name", {"module": "evil", "class_name": "Layer", "registered_name": "Package>Layer",
                           "config": {"name": "x"}}, "custom class .evil.Layer."),
    ("a module of PyTorch", {"module": "keras.layers", "class_name": "TorchModuleWrapper",
                             "config": {"name": "x", "module": "gANj"}}, "'x'"),
    ("a vocabulary that is a path", {"module": "keras.layers", "class_name": "StringLookup",
                                     "config": {"name": "x", "vocabulary": "/etc/passwd"}}, "Keras"),
):  # fmt: skip
    built(36, _what, reads=_note)(lambda folder, layer=_layer: _archive(folder, layer))
