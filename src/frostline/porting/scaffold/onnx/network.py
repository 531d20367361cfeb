"""An ONNX graph as the text of a module: nodes become layers and lines, in the order of computation."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from frostline.porting.readers.onnx_graph import OTHER
from frostline.porting.scaffold.onnx.lines import Lines
from frostline.porting.scaffold.onnx.node import Node, Several
from frostline.porting.scaffold.onnx.operators import OPERATORS
from frostline.porting.scaffold.onnx.values import BOOL, FLOAT, INT, Numbers, Value, numbers
from frostline.porting.scaffold.onnx.weights import Weights
from frostline.porting.scaffold.python_text import CONTRADICTIONS, NotWrittenError, identifier, module_source

if TYPE_CHECKING:
    from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
    from frostline.porting.scaffold.onnx.node import Given

_AXES = "Axes are in the order of the file."
_CONTROL = ("If", "Loop", "Scan", "SequenceMap")
_RECURRENT = ("LSTM", "GRU", "RNN")


def write(source: Source, path: str, name: str) -> str:
    """The text of the module for an ONNX graph.

    Args:
        source: The content of the file.
        path: The path of the file.
        name: The name of the class.

    Raises:
        NotWrittenError: If a node has no translation.
    """
    if not source.layers:
        raise NotWrittenError("a file without a graph")
    return _Writer(source).text(path, name)


class _Writer:
    """Translates nodes to attributes and lines; holds the values that were translated so far."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes = [layer for layer in source.layers if layer.kind not in ("Input", "Output")]
        self._tensors = {tensor.name: tensor for tensor in source.tensors}
        self._values: dict[str, Given] = {}
        self._lines = Lines()
        self._inputs = [layer for layer in source.layers if layer.kind == "Input"]
        self._outputs = [layer.config["input"][0] for layer in source.layers if layer.kind == "Output"]
        self._uses = Counter(name for layer in source.layers for name in layer.config.get("input", ()))
        self._bias, self._merged = self._biases()

    def text(self, path: str, name: str) -> str:
        """The text of the whole file."""
        for node in self._nodes:
            _check(node)
        shapes: list[str] = []
        for one in self._inputs:
            value = self._lines.argument(identifier(one.config["output"][0]), *_rank_and_kind(one))
            self._values[one.config["output"][0]] = value
            shapes.append(_described(one))
        self._weights = Weights(self._source, f"{self._lines.first}.device")
        for node in self._nodes:
            self._write(node)
        for tensor in self._source.tensors:
            self._weights.parameter(tensor, is_used=False)
        ends = [self._end(one) for one in self._outputs]
        arguments, lines, outputs = self._lines.named(ends)
        return module_source(
            file=path, format=self._source.format, axes=_AXES, name=name, made=self._weights.made, lines=lines,
            inputs=dict(zip(arguments, shapes, strict=True)), outputs=outputs,
        )  # fmt: skip

    def _end(self, name: str) -> str:
        value = self._values.get(name)
        if value is None and name in self._tensors:
            return self._weights.parameter(self._tensors[name]).text
        if value is None:
            raise NotWrittenError(f"the output {name!r}, which no node computes")
        return value.text if isinstance(value, Value) else f"torch.tensor({value.text})"

    def _write(self, layer: SourceLayer) -> None:
        node = self._node(layer)
        names: list[str] = layer.config["output"]
        if id(layer) in self._merged:
            self._values[names[0]] = node.given(self._merged[id(layer)])
            return
        try:
            result = OPERATORS[layer.kind](node)
        except CONTRADICTIONS as error:
            raise NotWrittenError(f"the node {layer.name!r} ({layer.kind}): {error}") from error
        hint = _readable(layer)
        if isinstance(result, Several):
            made = self._lines.add_several(result, hint)
        else:
            parts = result if isinstance(result, tuple) else (result,)
            made = [self._lines.add(one, hint) if isinstance(one, Value) else self._kept(one, hint) for one in parts]
        self._values |= {name: one for name, one in zip(names, made, strict=False) if name}

    def _kept(self, value: Numbers, hint: str) -> Numbers:
        """Assign long expressions among computed numbers to variables."""
        items = [self._lines.add(Value(one, 0, INT), hint).text if isinstance(one, str) and len(one) > _LONG else one
                 for one in value.items]  # fmt: skip
        return value.like(numbers(items).data.reshape(value.data.shape)) if items else value

    def _node(self, layer: SourceLayer) -> Node:
        config = layer.config
        names: list[str] = config.get("input", [])
        given = tuple(self._input(layer, slot, name) for slot, name in enumerate(names))
        used = tuple(bool(name) and self._uses[name] > 0 for name in config["output"])
        turned = frozenset(config.get("transposed", ()))
        return Node(
            layer.name, layer.kind, config, given, used, self._source.opset, self._weights, turned,
            self._bias.get(id(layer)), _readable(layer),
        )  # fmt: skip

    def _input(self, layer: SourceLayer, slot: int, name: str) -> Value | Numbers | SourceTensor | None:
        if not name:
            return None
        if name in self._values:
            return self._values[name]
        constants: dict[str, Any] = layer.config.get("constants", {})
        if name in constants:
            found = numbers(constants[name])
            return found if slot not in layer.config.get("transposed", ()) else found.like(found.data.T)
        if name in self._tensors:
            return self._tensors[name]
        if layer.kind in _RECURRENT and name in self._source.dropped:
            return None  # a first state of zeros
        raise NotWrittenError(f"the node {layer.name!r} ({layer.kind}): the constant {name!r} was not read")

    def _biases(self) -> tuple[dict[int, SourceTensor], dict[int, int]]:
        """Find additions of a bias to a product that nothing else uses: by product its bias, by addition its slot."""
        made = {name: layer for layer in self._nodes for name in layer.config["output"]}
        biases: dict[int, SourceTensor] = {}
        merged: dict[int, int] = {}
        for layer in self._nodes:
            names: list[str] = layer.config.get("input", [])
            for slot, name in enumerate(names if layer.kind == "Add" and len(names) == 2 else ()):
                bias, before = self._tensors.get(names[1 - slot]), made.get(name)
                if bias is None or before is None or before.kind != "MatMul" or name in self._outputs:
                    continue
                weight = next((self._tensors.get(one) for one in before.config["input"][1:2]), None)
                if weight and (weight.unit, bias.leaf) == (bias.unit, "bias") and self._uses[name] == 1:
                    biases[id(before)], merged[id(layer)] = bias, slot
        return biases, merged


_FOREIGN = ("uint16", "uint32", "uint64", OTHER)
_LONG = 48  # characters of an expression; a longer one gets a variable


_QUANTISED = frozenset((
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear", "QuantizeLinear",
    "QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearConcat", "QLinearSigmoid",
    "QLinearLeakyRelu", "QLinearSoftmax", "QGemm", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention",
))  # fmt: skip
_FLOATS = (
    "pass the network before quantisation: the file that the quantiser took, or a new export of the model in float32. "
    "If only weights are stored as integers (DequantizeLinear), the file can be read."
)
_WITHOUT = (
    "export the network again without loops: unroll a loop over a fixed number of steps (`torch.onnx.export` does so "
    "for a traced model), and use LSTM, GRU or RNN for a sequence; or write the module for a file without that part, "
    "put your own layer where it was, and port the whole file into that.",
    "if the condition depends on shapes only, remove it with `onnxsim model.onnx out.onnx --overwrite-input-shape "
    "NAME:1,3,224,224`; or export the network again with the branch that you need.",
)


def _check(layer: SourceLayer) -> None:
    """Refuse a node that has no translation."""
    domain = layer.config.get("domain", "")
    named = f"the node {layer.name!r} ({domain}{'.' if domain else ''}{layer.kind})"
    if layer.kind in _CONTROL:
        raise NotWrittenError(
            f"{named}: a part of the graph that runs on a condition, or again and again", _WITHOUT[layer.kind == "If"]
        )
    if layer.kind in _QUANTISED:
        raise NotWrittenError(f"{named}: it computes in integers", _FLOATS)
    if domain not in ("", "ai.onnx") or layer.kind not in OPERATORS:
        raise NotWrittenError(named)


def _rank_and_kind(one: SourceLayer) -> tuple[int | None, str]:
    dtype = one.config.get("dtype", "float32")
    if dtype in _FOREIGN:
        raise NotWrittenError(f"the input {one.name!r} in the dtype {dtype}, for which PyTorch has few operators")
    kind = BOOL if dtype == "bool" else INT if "int" in dtype else FLOAT
    return (len(one.config["shape"]) or None), kind


def _described(one: SourceLayer) -> str:
    sizes = [
        str(size) if isinstance(size, int) else identifier(size) if size else "any" for size in one.config["shape"]
    ]
    whole = _rank_and_kind(one)[1]
    ending = {INT: " of whole numbers", BOOL: " of truth values"}.get(whole, "")
    return (f"({', '.join(sizes)})" if sizes else "") + ending


def _readable(layer: SourceLayer) -> str:
    """A name for the output of a node: the node's own name without repeated names of blocks."""
    parts = [part for part in layer.name.split("/") if part]
    kept = [part for part, after in zip(parts, [*parts[1:], ""], strict=True) if not after.startswith(f"{part}.")]
    if kept and re.fullmatch(rf"{layer.kind}(_\d+)?", kept[-1]):
        kept[-1:] = [] if len(kept) > 1 and layer.kind in _LAYERS else [kept[-1].lower()]
    return identifier("_".join(kept) if kept else layer.kind.lower())


_LAYERS = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "MaxPool", "AveragePool", "Dropout", "LSTM", "GRU")
