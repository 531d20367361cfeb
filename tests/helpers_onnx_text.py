"""Nodes of ONNX written without a file."""

from frostline.porting.readers.contract import Source
from frostline.porting.scaffold.onnx.node import Node
from frostline.porting.scaffold.onnx.operators import OPERATORS
from frostline.porting.scaffold.onnx.weights import Weights
from frostline.porting.scaffold.python_text import NotWrittenError


def result(kind, *inputs, opset=17, outputs=1, tensors=(), **config):
    """What a node gives."""
    module = Weights(Source("ONNX", "onnx", tuple(tensors)), "x.device")
    return OPERATORS[kind](Node("node", kind, config, inputs, (True,) * outputs, opset, module))


def refusal(kind, *inputs, **given):
    """Why a node is not written."""
    try:
        result(kind, *inputs, **given)
    except (NotWrittenError, ValueError) as error:
        return str(error)
    raise AssertionError("it is written")
