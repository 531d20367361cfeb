"""Layouts of weights behind a flatten: feature maps are (height, width, channels) in most frameworks, (C, H, W) here.

A weight that is multiplied with a flattened map has one axis for the whole map: the inputs of a linear layer behind a
flatten, the outputs of one before a reshape into maps, the scales of a norm between them. The plan has a step for each
order in which the file's network may flatten; if there are several, a run decides.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.porting.graphs import source_graph
from frostline.porting.graphs.axes import BROKEN, CHANNELS, FEATURES, GIVEN, INPUTS, OUTPUTS, PLACE, UNKNOWN
from frostline.porting.layouts.choice import CHANNELS_LAST
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.porting.graphs.axes import Part, Piece
    from frostline.porting.graphs.axes_of_run import Flat
    from frostline.porting.graphs.target_graph import Flow
    from frostline.porting.layouts.layout import Move
    from frostline.porting.plan.step import Step
    from frostline.porting.readers.contract import Source

FIRST_IN_KERAS = "channels_first"  # a `data_format`
LAST, FIRST, EITHER = "channels last", "channels first", "either"
NOT_RUN = (
    "the module could not be run on inputs of any shape that the file or its own layers suggest, channels first or "
    "last, so that nothing shows whether it flattens maps before this layer"
)
NOT_FOLLOWED = "what the module does with the values there cannot be followed"
# The remedy for `NOT_FOLLOWED`.
WRITTEN_OTHERWISE = (
    "write that part of the module with channels last, so that the weights stay as they are, such as "
    "x.movedim(1, -1).flatten(1) for x.flatten(1); golden=(inputs, outputs) then proves it."
)

ELEMENTS = -1  # all axes of a tensor, which has one number for each element of a map

_UNNAMED = ("w", "W")  # names of a matrix that may be (in, out) or (out, in)

Order = tuple[int, ...]  # for each axis of the file's map, the index of the same axis in the module's map


def ways(step: Step, flow: Flow | None, source: Source, *, has_maps: bool, failure: str = "") -> tuple[Step, ...]:
    """The possible steps of a pair, by the order in which the file's network flattens the maps before the layer.

    Args:
        step: The step with the layouts of the framework.
        flow: The result of `target_graph.followed`; None if the module could not be run.
        source: The file.
        has_maps: Whether the module has convolutions, so that a map may be flattened in it.
        failure: Why the module could not be run.

    Returns:
        Steps of which one is right. A step with a doubt is the only one that can be made, and may be wrong.
    """
    is_matrix = isinstance(step.target.module, (nn.Linear, nn.MultiheadAttention))
    is_free = is_matrix and (source.framework == "numpy" or _is_unnamed(step))
    sides = _either_side(step) if is_free else (step,)
    if source.framework not in (*CHANNELS_LAST, "numpy", "onnx"):
        return sides
    if flow is None:
        may_be = has_maps and isinstance(step.target.module, nn.Linear) and source.framework != "onnx"
        doubt = f"{NOT_RUN}; {failure}" if failure else NOT_RUN
        return tuple(replace(one, doubt=doubt) for one in sides) if may_be else sides
    return tuple(way for one in sides for way in _in_order(one, flow.flattened.get(step.target.name, ()), source))


def _in_order(step: Step, flats: Sequence[Flat], source: Source) -> Iterator[Step]:
    doubt = ""
    choices: list[list[tuple[Flat, tuple[Order, ...]]]] = []
    for flat in flats:
        how = LAST if source.framework in CHANNELS_LAST else EITHER
        if source.framework == "onnx":
            how = _of_onnx(source, step.source.name, flat.side)
        elif source.framework == "keras":
            how = _of_keras(source)
        orders = [_orders(piece, how) for piece in flat.pieces]
        if any(part.role == BROKEN for piece in flat.pieces for part in piece):
            doubt = NOT_FOLLOWED
        else:
            choices.append([(flat, chosen) for chosen in itertools.product(*orders)])
    found: list[Step] = []
    for chosen in itertools.product(*choices):
        made: Step | None = step
        for flat, orders in chosen:
            made = made and _ordered(made, flat, orders)
        found += [replace(made, doubt=doubt or made.doubt)] if made else []
    yield from found or [replace(step, doubt=NOT_FOLLOWED)]


def _of_keras(source: Source) -> str:
    """The order in which a Keras network flattens its maps.

    Maps with channels first are flattened in this order; a `Flatten` with `data_format="channels_first"` moves their
    channels to the end before it flattens. A `Permute` changes the order too; its position in the network is not
    examined.
    """
    if any(layer.kind == "Permute" for layer in source.layers):
        return EITHER
    formats = [(layer.kind == "Flatten", layer.config.get("data_format") == FIRST_IN_KERAS) for layer in source.layers]
    if not any(is_first for is_flatten, is_first in formats if not is_flatten):
        return LAST
    turned = {is_first for is_flatten, is_first in formats if is_flatten}
    return EITHER if len(turned) > 1 else LAST if True in turned else FIRST


def _of_onnx(source: Source, name: str, side: str) -> str:
    has_turned = source_graph.is_turned(source, name, before=side != OUTPUTS)
    return EITHER if has_turned is None else LAST if has_turned else FIRST


def _orders(piece: Piece, how: str) -> list[Order]:
    """Every order in which the file's network may have flattened a map, the likely order first."""
    same = tuple(range(len(piece)))
    roles = [part.role for part in piece]
    if len(piece) < 2:
        return [same]
    if how == EITHER:
        return list(dict.fromkeys((*_orders(piece, FIRST), *_orders(piece, LAST))))
    channels = {part.place[:2] for part in piece if part.role == CHANNELS}
    if not {UNKNOWN, GIVEN} & set(roles) and len(channels) < 2:
        return _known(piece, how)
    found = [same]
    for index in same:
        if roles[index] != PLACE:
            rest = tuple(other for other in same if other != index)
            found.append((*rest, index) if how == LAST else (index, *rest))
    return list(dict.fromkeys(found))


def _known(piece: Piece, how: str) -> list[Order]:
    """The orders of a map of which every axis is known to be channels or a place."""
    same = tuple(range(len(piece)))
    natural = tuple(sorted(same, key=lambda index: piece[index].place))

    def arranged(order: Sequence[int]) -> Order:
        is_late = {index: (piece[index].role == CHANNELS) == (how == LAST) for index in order}
        return tuple(sorted(order, key=lambda index: is_late[index]))

    if all(part.role == CHANNELS for part in piece) or same == arranged(natural):
        return [same]
    if same == natural:
        return [arranged(natural)]
    # The network of the file may transpose the map as well.
    return list(dict.fromkeys((arranged(natural), same, arranged(same))))


def _is_unnamed(step: Step) -> bool:
    return step.source.framework != "haiku" and any(tensor.leaf in _UNNAMED for tensor in step.source.leaves.values())


def _either_side(step: Step) -> tuple[Step, ...]:
    """The steps for arrays of an unknown framework: a square matrix may be (in, out) or (out, in)."""
    weights = [move for move in step.moves if move.sources and set(move.layouts) <= {SAME, TRANSPOSED} and all(
        len(step.source.leaves[leaf].shape) == 2 for leaf in move.sources)]  # fmt: skip
    if step.target.norms:
        return (replace(step, doubt="a matrix under a norm that may be (in, out) or (out, in)"),)
    shapes = {step.source.leaves[leaf].shape for move in weights for leaf in move.sources}
    if not any(rows == columns for rows, columns in shapes):
        return (step,)
    turned = tuple(
        replace(move, layouts=tuple(_OTHER[own.name] for own in move.layouts)) if move in weights else move
        for move in step.moves
    )
    return (step, replace(step, moves=turned))


_OTHER = {SAME.name: TRANSPOSED, TRANSPOSED.name: SAME}


def _ordered(step: Step, flat: Flat, orders: Sequence[Order]) -> Step | None:
    """The step with one axis of its tensors in the order of the module; None if that axis is not known."""
    is_same = all(order == tuple(range(len(order))) for order in orders)
    if is_same and (flat.side != FEATURES or all(SAME in move.layouts for move in step.moves if move.sources)):
        return step
    made: list[Move] = []
    doubt = step.doubt
    for move in step.moves:
        axis = _axis(step, move.target, flat.side)
        if axis is None and flat.side not in (INPUTS, OUTPUTS, FEATURES):
            return None
        if axis is None or not move.sources:
            made.append(move)
            continue
        shape = step.target.tensors[move.target].shape
        if flat.side == FEATURES and axis == ELEMENTS:
            layout = _of_elements(step, move, flat.pieces[0], orders[0]) if len(flat.pieces) == 1 else None
            if layout is None:
                return None
            is_distinct = isinstance(step.target.module, (nn.LayerNorm, nn.RMSNorm)) or len(set(shape)) == len(shape)
            doubt = doubt if is_distinct else NOT_FOLLOWED  # the module may have transposed the tensor
            made.append(replace(move, layouts=(layout,)))
            continue
        size = sum(math.prod(part.size for part in piece) for piece in flat.pieces)
        is_mixed = len(move.sources) > 1 and (move.axis == axis or move.combine is not None)
        if axis >= len(shape) or shape[axis] != size or is_mixed:
            return None
        layout = in_order(flat.pieces, orders, axis)
        made.append(replace(move, layouts=tuple(own.then(layout) for own in move.layouts)))
    return replace(step, moves=tuple(made), doubt=doubt) if tuple(made) != step.moves else None


_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def _axis(step: Step, own: str, side: str) -> int | None:
    """The axis of a layer's tensor that stands for its inputs or outputs; None if none does, `ELEMENTS` if all do."""
    module, shape = step.target.module, step.target.tensors[own].shape
    if side == FEATURES:
        wide = [axis for axis, size in enumerate(shape) if size > 1]
        return wide[0] if len(wide) == 1 else ELEMENTS if wide else None
    if isinstance(module, _RECURRENT):
        return 1 if side == INPUTS and own == "weight_ih" else None
    if isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1:
        return len(shape)  # no axis: each group has an axis for its own channels only
    if own == "weight" and len(shape) > 1:
        is_turned = isinstance(module, (nn.modules.conv._ConvTransposeNd, nn.Embedding, nn.EmbeddingBag))
        return int((side == INPUTS) != is_turned)
    return 0 if side == OUTPUTS and len(shape) == 1 else None


def _of_elements(step: Step, move: Move, piece: Piece, order: Order) -> Layout | None:
    """The layout of a tensor with one number for each element of a map; None if the file's tensor has other axes."""
    own, theirs = (tuple(shape) for shape in (step.target.tensors[move.target].shape,
                                              step.source.leaves[move.sources[0]].shape))  # fmt: skip
    wide = [size for size in own if size > 1]
    ends = [math.prod(wide[: axis + 1]) for axis in range(len(wide))]
    sizes = [math.prod(part.size for part in piece[: index + 1]) for index in range(len(piece))]
    if len(move.sources) > 1 or sizes[-1] != ends[-1] or not set(ends) <= set(sizes):
        return None
    axes = [next(axis for axis, end in enumerate(ends) if size <= end) for size in sizes]
    turned = [axis for axis, _ in itertools.groupby(axes[index] for index in order)]
    if [wide[axis] for axis in turned] != [size for size in theirs if size > 1]:
        return None
    flat = in_order([piece], [order], 0)
    return Layout(flat.name.replace("axis 0", "elements"), lambda tensor: flat.forward(tensor.reshape(-1)).reshape(own),
                  lambda tensor: flat.inverse(tensor.reshape(-1)).reshape(theirs))  # fmt: skip


def in_order(pieces: Sequence[Piece], orders: Sequence[Order], axis: int) -> Layout:
    """The layout that reorders one axis from the order of the file's network to that of the module.

    Args:
        pieces: The maps on the axis, in the order of the module.
        orders: The order of the file's network, for each map.
        axis: The axis of the tensor.
    """
    index = torch.cat(list(_indices(pieces, orders)))
    back = torch.empty_like(index)
    back[index] = torch.arange(len(index))
    texts = [
        f"{_shape([piece[index] for index in order])} to {_shape(piece)}, axes {order}"
        for piece, order in zip(pieces, orders, strict=True)
    ]

    def forward(tensor: Tensor) -> Tensor:
        return tensor.index_select(axis, index.to(tensor.device))

    def inverse(tensor: Tensor) -> Tensor:
        return tensor.index_select(axis, back.to(tensor.device))

    return Layout(f"axis {axis} from {' and '.join(texts)}", forward, inverse)


def _indices(pieces: Sequence[Piece], orders: Sequence[Order]) -> Iterator[Tensor]:
    start = 0
    for piece, order in zip(pieces, orders, strict=True):
        size = math.prod(part.size for part in piece)
        theirs = torch.arange(start, start + size).reshape([piece[index].size for index in order])
        yield theirs.permute([order.index(index) for index in range(len(order))]).reshape(-1)
        start += size


def _shape(parts: Sequence[Part]) -> str:
    return f"({', '.join(str(part.size) for part in parts)})"
