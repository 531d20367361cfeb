"""A Keras network as the text of a module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from frostline.porting.interpreter.masks import TAKES_MASK
from frostline.porting.interpreter.network import input_names, interpret, output_names, version
from frostline.porting.interpreter.random_inputs import samples
from frostline.porting.scaffold.keras.call import UNKNOWN, Call
from frostline.porting.scaffold.keras.functions import FUNCTIONS
from frostline.porting.scaffold.keras.masks import mask_after
from frostline.porting.scaffold.keras.weighted import WEIGHTED, is_packed
from frostline.porting.scaffold.python_text import CONTRADICTIONS, NotWrittenError, module_source, unused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.readers.contract import Source, SourceLayer

_AXES = "Images have their channels on axis 1, sequences on the last."


def write(source: Source, path: str, name: str) -> str:
    """The text of the module for a Keras network.

    Args:
        source: The content of the file.
        path: The path of the file.
        name: The name of the class.

    Raises:
        NotWrittenError: If a layer has no translation.
        NotInterpretedError: If the shapes of values are not known.
    """
    return _Writer(source, interpret(source, samples(source)).shapes).text(path, name)


class _Writer:
    """Translates layers to attributes and lines, in the order of computation."""

    def __init__(self, source: Source, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._source, self._shapes = source, shapes
        self._names: dict[str, str] = {}  # by layer: the variable of its output
        self._attributes: dict[str, str] = {}  # by unit: the attribute of its layer
        self._made: dict[str, str] = {}
        self._lines: list[str] = []
        self._masks: dict[str, str] = {}  # by layer: the variable of its output's mask, or an empty text
        self._version = version(source)
        self._packs_attention = all(
            is_packed(layer.config, [self._sizes(one) for one in layer.inputs], self._sizes(layer.name))
            for layer in source.layers
            if layer.kind == "MultiHeadAttention"
        )

    def text(self, path: str, name: str) -> str:
        """The text of the whole file."""
        inputs, outputs = input_names(self._source), output_names(self._source)
        for one in inputs:
            self._names[one] = unused(one, self._names.values())
        for index, layer in enumerate(self._source.layers):
            if layer.name not in inputs:
                self._write(layer, index, outputs)
        needed = _needed(self._lines, [self._names[one] for one in outputs])
        return module_source(
            file=path, format=self._source.format, axes=_AXES, name=name, made=self._made, lines=needed,
            inputs={self._names[one]: self._shape(one) for one in inputs},
            outputs=[self._names[one] for one in outputs],
        )  # fmt: skip

    def _write(self, layer: SourceLayer, index: int, outputs: tuple[str, ...]) -> None:
        unit = layer.unit or layer.name
        if unit not in self._attributes:
            self._attributes[unit] = unused(unit, self._attributes.values())
        taken, masks = self._taken(layer)
        call = Call(
            self._attributes[unit], layer.kind, layer.config, tuple(self._sizes(one) for one in taken),
            self._sizes(layer.name), tuple(self._names[one] for one in taken), self._version,
            self._packs_attention, masks,
        )  # fmt: skip
        made, expression = _written(call)
        self._made |= made
        takers = [other for other in self._source.layers if layer.name in other.inputs]
        following = self._source.layers[index + 1] if index + 1 < len(self._source.layers) else None
        is_sole_end = outputs == (layer.name,) and following is None
        is_passed_on = following is not None and takers == [following] and len(following.inputs) == 1
        is_passed_on = is_sole_end or (is_passed_on and layer.name not in outputs)
        self._names[layer.name] = "x" if is_passed_on else unused(layer.name, self._names.values())
        mask = mask_after(call)
        if mask and mask not in (UNKNOWN, *call.masks):  # before the line below assigns `x` again
            name = unused(f"{layer.name}_mask", [*self._names.values(), *self._masks.values()])
            self._lines.append(f"{name} = {mask}")
            mask = name
        self._masks[layer.name] = mask
        self._lines.append(f"{self._names[layer.name]} = {expression}")

    def _taken(self, layer: SourceLayer) -> tuple[list[str], tuple[str, ...]]:
        """The inputs of a layer and their masks: the mask that it was called with, or the masks of the inputs."""
        names: tuple[str, ...] = layer.config.get("names") or ()
        if layer.kind in TAKES_MASK and "mask" in names and len(names) == len(layer.inputs):
            at = names.index("mask")
            taken = [*layer.inputs[:at], *layer.inputs[at + 1 :]]
            return taken, (self._names[layer.inputs[at]],)
        return list(layer.inputs), tuple(self._seen(one, layer) for one in layer.inputs)

    def _seen(self, name: str, layer: SourceLayer) -> str:
        """The mask of a value for one layer that takes it: attentions of Keras 3 remove it."""
        count = sum(one.kind == "MultiHeadAttention" and name in one.inputs for one in self._source.layers)
        is_own = layer.kind == "MultiHeadAttention" and count == 1
        mask = self._masks.get(name, "")
        return UNKNOWN if mask and count and not is_own and self._version != 2 else mask

    def _sizes(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def _shape(self, name: str) -> str:
        sizes = self._sizes(name)
        inner = (sizes[-1], *sizes[1:-1]) if len(sizes) > 3 else sizes[1:]
        return f"(batch, {', '.join(map(str, inner))})"


def _written(call: Call) -> tuple[dict[str, str], str]:
    """The attributes in `__init__`, and the expression in `forward`."""
    try:
        if call.kind in WEIGHTED:
            return WEIGHTED[call.kind](call)
        if call.kind in FUNCTIONS:
            stands, expression = FUNCTIONS[call.kind](call)
            return {call.name: stands} if stands else {}, expression
        call.refuse()
    except CONTRADICTIONS as error:
        raise NotWrittenError(f"{call.name} ({call.kind}): {error}") from error


def _needed(lines: list[str], outputs: list[str]) -> list[str]:
    """The lines without unused masks."""
    wanted = set(outputs)
    kept: list[str] = []
    for line in reversed(lines):
        name, _, expression = line.partition(" = ")
        if name in wanted or not name.endswith("_mask"):
            wanted |= set(re.findall(r"\w+", expression))
            kept.append(line)
    return kept[::-1]
