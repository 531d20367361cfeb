"""The flow of values between the units of a file that contains its architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.graphs.calls import names
from frostline.porting.graphs.target_graph import contracted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.graphs.target_graph import Edges
    from frostline.porting.readers.contract import Source, SourceLayer
    from frostline.porting.units.unit import SourceUnit


def flow(source: Source, units: Sequence[SourceUnit]) -> Edges | None:
    """For each unit the units before it; None if the file does not contain its architecture."""
    if not source.layers:
        return None
    order = {layer.name: index for index, layer in enumerate(source.layers)}
    nodes: list[tuple[list[list[str]], list[int]]] = []
    for layer in source.layers:
        own = [unit.name for unit in units if _is_of(unit, layer.name)]
        nodes.append((_stages(own), [order[name] for name in _flowing(layer) if name in order]))
    return contracted(nodes)


def _is_of(unit: SourceUnit, layer: str) -> bool:
    """Whether a unit is a layer of the graph, a part of the layer, or joined from such parts."""
    if unit.parts:
        return any(_is_of(part, layer) for part in unit.parts.values())
    name = unit.packed.whole.name if unit.packed else unit.name
    return name == layer or name.startswith(f"{layer}/")


# Parts of one layer: the stage at which each runs. Other parts run one after the other, in the order of the file.
_STAGE = {"forward": 0, "backward": 0, "query": 0, "key": 0, "value": 0, "attention_output": 1, "output": 1,
          "depthwise": 0, "pointwise": 1}  # fmt: skip


def _flowing(layer: SourceLayer) -> list[str]:
    """The inputs of a layer without masks, which modules compute at another place or not at all."""
    names: tuple[str, ...] = layer.config.get("names") or ("",) * len(layer.inputs)
    return [one for one, name in zip(layer.inputs, names, strict=False) if name != "mask"]


_SHAPES = ("batch_shape", "batch_input_shape", "shape")


def _stages(names: list[str]) -> list[list[str]]:
    stages: dict[int, list[str]] = {}
    for index, name in enumerate(names):
        stages.setdefault(_STAGE.get(name.rpartition("/")[2], index), []).append(name)
    return [stages[stage] for stage in sorted(stages)]


def input_shapes(source: Source) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Shapes (without the batch axis) and dtypes of the inputs, as the file states them; empty if a size is open."""
    shapes: list[tuple[tuple[int, ...], str]] = []
    for layer in source.layers:
        if layer.kind in ("InputLayer", "Input"):
            shape = next((layer.config[name] for name in _SHAPES if layer.config.get(name)), ())
            if (
                not shape
                or not isinstance(shape, (list, tuple))
                or not all(isinstance(size, int) for size in shape[1:])
            ):
                return ()
            shapes.append((tuple(shape[1:]), str(layer.config.get("dtype", "float32"))))
    return tuple(shapes)


_PASSING = names("""Relu LeakyRelu PRelu Sigmoid Tanh Elu Selu Gelu Erf HardSigmoid HardSwish Softplus Softsign Clip
    Dropout Identity Cast Add Sub Mul Div BatchNormalization Celu Mish ThresholdedRelu Softmax""")
_FLATTENING = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze"))


def is_turned(source: Source, name: str, *, before: bool) -> bool | None:
    """Whether an ONNX graph moves channels to the end before a flatten, or back to axis 1 after a reshape.

    Args:
        source: The file.
        name: The name of a layer with weights.
        before: Whether to follow the values before the layer, or those after it.

    Returns:
        None if the graph does not show it.
    """
    layers = {layer.name: layer for layer in source.layers}
    following: dict[str, list[str]] = {}
    for layer in source.layers:
        for other in layer.inputs:
            following.setdefault(other, []).append(layer.name)
    at, has_flatten = name, False
    for _ in layers:
        near = list(layers[at].inputs[:1]) if before and at in layers else following.get(at, [])
        kinds = {layers[one].kind for one in near if one in layers}
        if len(kinds) != 1 or (len(near) != 1 and not kinds <= {"Transpose"}):
            return None
        (kind,), at = kinds, near[0]
        if kind == "Transpose" and has_flatten:
            perm = tuple(layers[at].config.get("perm", ()))
            axes = range(len(perm))
            back, forth = (0, *axes[2:], 1), (0, axes[-1], *axes[1:-1])
            return (perm == (back if before else forth)) or None if perm else None
        if kind in _FLATTENING:
            has_flatten = True
        elif has_flatten and kind not in _PASSING:
            return False
        elif kind not in _PASSING:
            return None
    return None
