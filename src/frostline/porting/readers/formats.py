"""The entry point for files of weights: the reader is chosen by the content of the file, not by its name."""

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

# If the content fits two readers, the first one is used: readers with stricter checks come first.
READERS: tuple[Reader, ...] = (
    keras3, keras_h5, torch_archive, sklearn, npz, safetensors, torch_shards, tensorflow, mxnet, gguf, matconvnet,
    torch_legacy, paddle, orbax, tfjs, caffe, onnx, paddle_inference, graph_def, flax, darknet,
)  # fmt: skip

_LONG_LINE = 1 << 16

# Files that are often mistaken for files of weights: their first bytes, a description, and the remedy.
_OTHER_CONTENT = (
    (b"\x1f\x8b", "compressed by gzip", "decompress it (`gunzip FILE`), then pass the decompressed file."),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself",
     "fetch the file itself: `git lfs pull` in its repository."),
    (b"<!doctype", "a web page", "download the file itself: this address returned a page about it."),
    (b"<html", "a web page", "download the file itself: this address returned a page about it."),
)  # fmt: skip


@contextmanager
def open_source(path: Path, key: str | None = None) -> Generator[tuple[Source, WeightFile]]:
    """Open a file of weights; its tensors can be loaded inside the context.

    Args:
        path: The path of a file, of a folder, or the prefix of a checkpoint.
        key: The entry of the file that holds the weights, if there are several.

    Yields:
        The content, and the open file.

    Raises:
        PortError: If no reader supports the content, or the file is damaged, hostile, or changed while it is read.
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
                what="The file contains no weights.", where=str(path), received=f"{source.format} without arrays",
                do="pass the file with the weights; this one may contain the architecture only.",
            )  # fmt: skip
        if path.is_dir():
            chosen = file.path.relative_to(path).as_posix()
            source = replace(source, notes=(f"Of the folder, {chosen} was read.", *source.notes))
        yield source, file
        file.check_unchanged()


def _refuse_other_content(file: WeightFile) -> None:
    """Refuse known kinds of files that contain no weights, with a specific remedy.

    Raises:
        PortError: If the file is of such a kind.
    """
    start = file.start(_LONG_LINE)
    if start.startswith(b"{") and b"\n" + npz.SIGNATURE in start:
        raise npz.series(file)  # hyperparameters in one line of JSON, as in Equinox's documentation
    for first, name, remedy in _OTHER_CONTENT:
        if start.lstrip().lower().startswith(first):
            raise file.refused(
                f"This file contains no weights: it is {name}.", f"a file that begins with {start[:16]!r}", remedy
            )
