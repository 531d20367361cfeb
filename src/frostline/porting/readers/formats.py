"""The one door to weights: which reader a file belongs to is told by its content."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.readers import (
    caffe,
    darknet,
    flax,
    gguf,
    graph_def,
    keras3,
    keras_h5,
    matconvnet,
    mxnet,
    npz,
    onnx,
    orbax,
    paddle,
    paddle_inference,
    safetensors,
    sklearn,
    tensorflow,
    tfjs,
    torch_archive,
    torch_legacy,
    torch_shards,
)
from frostline.porting.readers.folders import weight_path
from frostline.porting.readers.tensor_data import check_names
from frostline.porting.readers.weight_file import WeightFile

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from frostline.porting.readers.contract import Reader, Source

# The order counts where content fits two: the one that looks closest comes first.
READERS: tuple[Reader, ...] = (
    keras3, keras_h5, torch_archive, sklearn, npz, safetensors, torch_shards, tensorflow, mxnet, gguf, matconvnet,
    torch_legacy, paddle, orbax, tfjs, caffe, onnx, paddle_inference, graph_def, flax, darknet,
)  # fmt: skip

_LONG_LINE = 1 << 16

# What often lies where weights should: the first bytes, what it is, and what to do.
_OTHER_CONTENT = (
    (b"\x1f\x8b", "compressed by gzip", "unpack it (`gunzip FILE`), then pass the unpacked file."),
    (b"version https://git-lfs", "a pointer of Git LFS, which stands for the file",
     "fetch the file itself: `git lfs pull` in its repository."),
    (b"<!doctype", "a web page", "download the file itself: the address led to a page about it."),
    (b"<html", "a web page", "download the file itself: the address led to a page about it."),
)  # fmt: skip


@contextmanager
def open_source(path: Path, key: str | None = None) -> Generator[tuple[Source, WeightFile]]:
    """The content of a file of weights, and the file itself; tensors are read while it is open.

    Args:
        path: Of the file; of a folder, or a prefix, as checkpoints are named by it.
        key: The entry of the file that holds the weights, where there are several.

    Raises:
        PortError: If no reader knows the content, or the file is damaged, hostile, or written to meanwhile.
    """
    with WeightFile(weight_path(path)) as file:
        reader = next((reader for reader in READERS if reader.claims(file)), None)
        if reader is None:
            _refuse_other_content(file)
            raise file.refused(
                "The format of this file is unknown.",
                f"a file of {file.size} bytes that begins with {file.start(16)!r}",
                "pass a file of weights as its framework saved it; the formats are listed in docs/formats.md.",
            )  # fmt: skip
        file.check_written()
        if not reader.HAS_ENTRIES:
            file.check_no_key(key)
        source = reader.read(file, key) if reader.HAS_ENTRIES else reader.read(file)
        check_names(file, [tensor.name for tensor in source.tensors])
        if not source.tensors:
            raise PortError(
                what="The file holds no weights.", where=str(path), received=f"{source.format} without arrays",
                do="pass the file that holds the weights; this one may contain the architecture only.",
            )  # fmt: skip
        if path.is_dir():
            chosen = file.path.relative_to(path).as_posix()
            source = replace(source, notes=(f"Of the folder, {chosen} was read.", *source.notes))
        yield source, file
        file.check_unchanged()


def _refuse_other_content(file: WeightFile) -> None:
    """Refuse files that are no weights by what they are.

    Raises:
        PortError: It says what the file is, and what to do with it.
    """
    start = file.start(_LONG_LINE)
    if start.startswith(b"{") and b"\n" + npz.SIGNATURE in start:
        raise npz.series(file)  # settings of a model in a line of JSON, as the documentation of Equinox has it
    for first, name, remedy in _OTHER_CONTENT:
        if start.lstrip().lower().startswith(first):
            raise file.refused(
                f"This file does not hold weights: it is {name}.", f"a file that begins with {start[:16]!r}", remedy
            )
