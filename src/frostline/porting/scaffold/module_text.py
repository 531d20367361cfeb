"""The text of a PyTorch module that computes the same as the network of a file: the entry point of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.readers.weight_file import clipped
from frostline.porting.scaffold.keras import network as keras
from frostline.porting.scaffold.onnx import network as onnx
from frostline.porting.scaffold.python_text import NotWrittenError

if TYPE_CHECKING:
    from frostline.porting.readers.contract import Source

_BY_HAND = "put your own layer where it was, and port the whole file into that, with golden=(inputs, outputs)."
_REMEDIES = {
    "onnx": "write this layer by hand: write the module for a file without it (`onnx.utils.extract_model` extracts a "
    "part of a graph), " + _BY_HAND,
    "keras": "let Keras on TensorFlow export the network (pip install tf2onnx; call the model once, then "
    "model.export('model.onnx', format='onnx')), and write the module for that file; or write the module by hand, and "
    "port this file into it, with golden=(inputs, outputs).",
}  # fmt: skip

_EXPORTS = {  # of files of weights: where the same network has its architecture in a file
    "keras": "pass the .keras file, or the .h5 file of the whole model (model.save), which state the architecture",
    "torch": "export the network: torch.onnx.export(model, example, 'model.onnx')",
    "gguf": "export the network that the file was converted from: torch.onnx.export(model, example, 'model.onnx')",
    "tensorflow": "export the network: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx "
    "(--checkpoint FILE.meta for TensorFlow 1)",
    "flax": "export the network: jax2onnx.to_onnx(function, [shape], return_mode='file', output_path='model.onnx')",
    "paddle": "export the network: paddle2onnx --model_dir FOLDER --save_file model.onnx",
    "mxnet": "export the network: mxnet.onnx.export_model(symbol, params, [shape])",
    "sklearn": "export the network: skl2onnx.to_onnx(model, example)",
}
_EXPORTS["haiku"] = _EXPORTS["flax"]
_MERGED = (
    "build the model again without LoRA, load the .weights.h5 of this one into it, which stores kernels with LoRA "
    "added, and save that model."
)


def module_text(source: Source, path: str, name: str = "Network") -> str:
    """The text of a Python file with one class, whose layers have the names and the order of the file.

    Args:
        source: A Keras network or an ONNX graph, with its architecture.
        path: The path of the file, for error texts and for the docstring of the text.
        name: The name of the class.

    Raises:
        PortError: If the file states no architecture, or a layer has no translation; the error names the first one.
    """
    if not source.layers or source.framework not in _REMEDIES:
        export = _EXPORTS.get(source.framework, "export the network to ONNX with its own framework")
        raise PortError(
            what="No module can be written for this file: it states no architecture that is translated.", where=path,
            received=f"{source.format}, {len(source.tensors)} tensors",
            do=f"{export}, and write the module for that file; or write the module by hand, and port this one into it.",
        )  # fmt: skip
    try:
        return (onnx if source.framework == "onnx" else keras).write(source, path, name)
    except (NotInterpretedError, NotWrittenError) as error:
        raise PortError(
            what="No module can be written for this network.", where=path,
            received=clipped(str(error).removeprefix("not interpreted: ")),
            do=getattr(error, "do", "") or (_MERGED if "lora_rank" in str(error) else _REMEDIES[source.framework]),
        ) from error  # fmt: skip
