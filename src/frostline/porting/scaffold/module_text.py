"""The text of a PyTorch module that computes what the network of a file does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.scaffold.keras import network as keras
from frostline.porting.scaffold.onnx import network as onnx
from frostline.porting.scaffold.python_text import NotWrittenError

if TYPE_CHECKING:
    from frostline.porting.readers.contract import Source

_LONGEST = 600  # letters of a reason
_BY_HAND = "put your own layer where it was, and port the whole file into that, with golden=(inputs, outputs)."
_REMEDIES = {
    "onnx": "write this layer by hand: write the module for a file without it (`onnx.utils.extract_model` cuts a part "
    "out of a graph), " + _BY_HAND,
    "keras": "let Keras on TensorFlow export the network (pip install tf2onnx; call the model once, then "
    "model.export('model.onnx', format='onnx')), and write the module for that file; or write the module by hand, and "
    "port this file into it, with golden=(inputs, outputs).",
}  # fmt: skip


def _shown(text: str) -> str:
    """A text that may hold names of a file, which may be of any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def module_text(source: Source, path: str, name: str = "Network") -> str:
    """A file of Python with one class, whose layers are named as those of the file, and which the port fills.

    Args:
        source: A Keras network or a graph of ONNX, with its architecture.
        path: Of the file, for messages and for the head of the text.
        name: Of the class.

    Raises:
        PortError: If a layer of the network is none of those that are written; it names the first.
    """
    try:
        return (onnx if source.framework == "onnx" else keras).write(source, path, name)
    except (NotInterpretedError, NotWrittenError) as error:
        raise PortError(
            what="No module can be written for this network.", where=path,
            received=_shown(str(error).removeprefix("not interpreted: ")),
            do=getattr(error, "do", "") or _REMEDIES["onnx" if source.framework == "onnx" else "keras"],
        ) from error  # fmt: skip
