"""The outputs of a Keras network, computed in float64, layer by layer, from the architecture in its file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from frostline.porting.interpreter.activations import without_activation
from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import Layer, NotInterpretedError
from frostline.porting.interpreter.masks import mask_after, masked, seen
from frostline.porting.interpreter.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from frostline.porting.interpreter.masks import Mask
    from frostline.porting.readers.contract import Source, SourceLayer

Made = TypeVar("Made")
MOST_WORK = 5e11  # multiplications of one run, about a minute in float64; VGG16 takes 5e10 for three images


@dataclass(frozen=True)
class Interpretation:
    """The values that a network computes.

    Attributes:
        outputs: The outputs of the network, in the order of the file; float64, channels last.
        layers: By layer: its output; empty unless requested.
        before: The outputs before the activation of the last layer, which modules often omit; empty if it has none.
        plain: By layer: its output before its activation; empty unless requested.
        shapes: By layer: the shape of its output, channels last.
    """

    outputs: tuple[Tensor, ...]
    layers: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    before: tuple[Tensor, ...] = ()
    plain: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])


def interpret(source: Source, inputs: Sequence[Tensor], *, keeps_layers: bool = False) -> Interpretation:
    """Run the network of a file.

    Args:
        source: A Keras network with its architecture; weights are read when their layer is reached.
        inputs: One value for each input layer, channels last.
        keeps_layers: Whether to return the output of every layer.

    Raises:
        NotInterpretedError: If the meaning of a layer is not known for certain, as nothing is guessed; or if the
            network computes for too long.
    """
    with torch.no_grad(), Work(MOST_WORK):
        return _interpreted(source, inputs, keeps_layers=keeps_layers)


def _interpreted(source: Source, inputs: Sequence[Tensor], *, keeps_layers: bool) -> Interpretation:
    names, ends = input_names(source), output_names(source)
    if len(names) != len(inputs):
        raise NotInterpretedError(f"not interpreted: {len(names)} inputs, {len(inputs)} values")
    values = dict(zip(names, inputs, strict=True))
    weights = _weights(source)
    number = version(source)
    left = Counter(name for layer in source.layers for name in layer.inputs) + Counter(ends)
    masks: dict[str, Mask] = {}
    attentions = Counter(
        name for layer in source.layers if layer.kind == "MultiHeadAttention" for name in set(layer.inputs)
    )
    kept: dict[str, Tensor] = {}
    before: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for stated in source.layers:
        if stated.kind != "InputLayer":
            own = weights.get(stated.unit or stated.name, {})
            layer = Layer(stated.name, stated.kind, stated.config, tuple(_taken(stated, values)), own, number)
            layer = masked(layer, [seen(masks.get(name), layer, attentions[name]) for name in stated.inputs])
            values[stated.name] = _applied(layer)
            masks[stated.name] = _guarded(layer, mask_after)
            if stated.name in ends or keeps_layers:
                before[stated.name] = _before(layer, values[stated.name])
        shapes[stated.name] = tuple(values[stated.name].shape)
        if keeps_layers:
            kept[stated.name] = values[stated.name]
        left.subtract(stated.inputs)
        for name in stated.inputs:
            if left[name] <= 0:
                values.pop(name, None)
    outputs = tuple(values[name] for name in ends)
    logits = tuple(before[name] for name in ends if name in before)
    is_same = len(logits) != len(outputs) or all(one is other for one, other in zip(logits, outputs, strict=True))
    return Interpretation(outputs, kept, () if is_same else logits, before if keeps_layers else {}, shapes)


def called(source: Source, stated: SourceLayer, inputs: tuple[Tensor, ...]) -> Tensor:
    """The output of one layer of a network for these inputs."""
    own = _weights(source).get(stated.unit or stated.name, {})
    return _applied(Layer(stated.name, stated.kind, stated.config, inputs, own, version(source)))


def version(source: Source) -> int:
    """The major version of Keras that wrote the architecture, from its description of inputs; 0 if unknown."""
    for layer in source.layers:
        if layer.kind == "InputLayer":
            if "batch_shape" in layer.config:
                return 3
            if "batch_input_shape" in layer.config:
                return 2
    return 3 if any(isinstance(layer.config.get("dtype"), dict) for layer in source.layers) else 0


def input_names(source: Source) -> tuple[str, ...]:
    """The input layers, in the order in which the network takes them."""
    return source.inputs or tuple(layer.name for layer in source.layers if layer.kind == "InputLayer")


def output_names(source: Source) -> tuple[str, ...]:
    """The layers whose outputs are the outputs of the network.

    Raises:
        NotInterpretedError: If the file does not state them, and several layers are at the end of the network.
    """
    if source.outputs:
        return source.outputs
    taken = {name for layer in source.layers for name in layer.inputs}
    ends = tuple(layer.name for layer in source.layers if layer.name not in taken)
    if len(ends) != 1:
        raise NotInterpretedError("not interpreted: the file does not state which layers are the network's outputs")
    return ends


def _weights(source: Source) -> dict[str, dict[str, Callable[[], Tensor]]]:
    found: dict[str, dict[str, Callable[[], Tensor]]] = {}
    for tensor in source.tensors:
        if tensor.leaf:
            found.setdefault(tensor.unit, {})[tensor.leaf] = tensor.load
    return found


def _taken(stated: SourceLayer, values: Mapping[str, Tensor]) -> list[Tensor]:
    missing = [name for name in stated.inputs if name not in values]
    if missing or not stated.inputs:
        raise NotInterpretedError(f"not interpreted: {stated.name} ({stated.kind}): it takes no layer's output")
    return [values[name] for name in stated.inputs]


def _applied(layer: Layer) -> Tensor:
    return _guarded(layer, apply)


def _guarded(layer: Layer, function: Callable[[Layer], Made]) -> Made:
    try:
        return function(layer)
    except (
        RuntimeError,
        LookupError,
        ValueError,
        TypeError,
        ArithmeticError,
        AttributeError,
    ) as error:  # settings and shapes of the file that contradict each other
        raise NotInterpretedError(f"not interpreted: {layer.name} ({layer.kind}): {error}") from error


def _before(layer: Layer, value: Tensor) -> Tensor:
    """The value before the last activation, which may be a setting or a layer of its own."""
    if layer.kind in ("Activation", "Softmax", "ReLU"):
        return layer.inputs[0]
    plain = without_activation(layer)
    return value if plain is None else _applied(plain)
