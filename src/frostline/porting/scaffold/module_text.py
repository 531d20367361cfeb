"""The text of a PyTorch module that computes the same as the network of a file: the entry point of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.scaffold.keras import network as keras
from frostline.porting.scaffold.onnx import network as onnx
from frostline.porting.scaffold.python_text import NotWrittenError

if TYPE_CHECKING:
    from frostline.porting.readers.contract import Source

_LONGEST = 600  # characters of a reason
_BY_HAND = "put your own layer where it was, and port the whole file into that, with golden=(inputs, outputs)."
_REMEDIES = {
    "onnx": "write this layer by hand: write the module for a file without it (`onnx.utils.extract_model` extracts a "
    "part of a graph), " + _BY_HAND,
    "keras": "let Keras on TensorFlow export the network (pip install tf2onnx; call the model once, then "
    "model.export('model.onnx', format='onnx')), and write the module for that file; or write the module by hand, and "
    "port this file into it, with golden=(inputs, outputs).",
}  # fmt: skip


def _shown(text: str) -> str:
    """The text, shortened: names in a file may have any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def module_text(source: Source, path: str, name: str = "Network") -> str:
    """The text of a Python file with one class, whose layers have the names and the order of the file.

    Args:
        source: A Keras network or an ONNX graph, with its architecture.
        path: The path of the file, for error texts and for the docstring of the text.
        name: The name of the class.

    Raises:
        PortError: If a layer has no translation; the error names the first such layer.
    """
    try:
        return (onnx if source.framework == "onnx" else keras).write(source, path, name)
    except (NotInterpretedError, NotWrittenError) as error:
        raise PortError(
            what="No module can be written for this network.", where=path,
            received=_shown(str(error).removeprefix("not interpreted: ")),
            do=getattr(error, "do", "") or _REMEDIES["onnx" if source.framework == "onnx" else "keras"],
        ) from error  # fmt: skip
