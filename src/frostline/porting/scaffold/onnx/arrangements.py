"""Operators that arrange elements anew: reshape, transpose, concatenate, split, repeat, pad.

Sizes that a file computes (`Shape`, then arithmetic, then `Reshape`) stay numbers of Python, so that the module is
written with the expressions that a person would write, and works for other batch sizes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.porting.scaffold.onnx.node import Node, Result, Several, widest
from frostline.porting.scaffold.onnx.values import BOOL, FLOAT, INT, Numbers, Value, check_size, objects, part, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_MOST_WRITTEN = 64  # numbers of a constant that are written out; more of them are made by an expression


def _shape(node: Node) -> Result:
    """Sizes that only a run shows are expressions, so that the module takes batches of any size."""
    given = node.given(0)
    if isinstance(given, Numbers):
        return Numbers(objects(list(given.data.shape)))
    rank = node.need(given.rank)
    start = node.axis(node.integer("start", 0), rank)
    end = node.axis(node.integer("end", rank), rank)
    sizes = [f"{given.atom}.shape[{axis}]" for axis in range(rank)]
    return Numbers(objects(sizes[max(start, 0) : end]))


def _size(node: Node) -> Result:
    given = node.given(0)
    return Numbers(objects(given.data.size if isinstance(given, Numbers) else f"{given.atom}.numel()"))


def _listed(sizes: Sequence[int | str]) -> str:
    return ", ".join(map(str, sizes))


def _reshape(node: Node) -> Result:
    given = node.given(0)
    if "shape" in node.config:  # before version 5 of the operators
        sizes: list[int | str] = list(node.integers("shape"))
    else:
        shape = node.given(1)
        if isinstance(shape, Value) and shape.rank != 0:  # computed from values: the sizes are read in the run
            x, sizes_ = node.x, f"{shape.atom}.tolist()"
            if not node.integer("allowzero", 0):
                sizes_ = f"[size or {x.atom}.shape[axis] for axis, size in enumerate({sizes_})]"
            return Value(f"{x.atom}.reshape({sizes_})", None, x.kind)
        sizes = node.list_of(1)
    if isinstance(given, Numbers):
        known = [one for one in sizes if isinstance(one, int)]
        if len(known) == len(sizes):
            kept = [given.data.shape[axis] if one == 0 else one for axis, one in enumerate(known)]
            return given.like(given.data.reshape(kept))
        given = node.as_tensor(given)
    if not node.integer("allowzero", 0):  # a zero stands for the size that the input has
        sizes = [f"{given.atom}.shape[{axis}]" if one == 0 else one for axis, one in enumerate(sizes)]
    if len(sizes) == 2 and sizes[1] == -1 and sizes[0] == f"{given.atom}.shape[0]":
        return Value(f"{given.atom}.flatten(1)", 2, given.kind)
    return Value(f"{given.atom}.reshape({_listed(sizes) or '()'})", len(sizes), given.kind)


def _flatten(node: Node) -> Result:
    """Always a matrix, also where no axis is on one side: then it gets a size of 1."""
    x, axis = node.x, node.integer("axis", 1)
    axis = node.axis(axis, node.need(x.rank)) if axis < 0 else axis
    if axis == 0 or axis == x.rank:
        return Value(f"{x.atom}.reshape({'1, -1' if axis == 0 else '-1, 1'})", 2, x.kind)
    text = x.atom if axis + 1 == x.rank else f"{x.atom}.flatten({axis})"
    return Value(text if axis == 1 else f"{text}.flatten(0, {axis - 1})", 2, x.kind)


def _transpose(node: Node) -> Result:
    given = node.given(0)
    rank = len(node.integers("perm")) if "perm" in node.config else node.need(given.rank)
    perm = node.integers("perm", list(reversed(range(rank))))  # without `perm` all axes are reversed
    if sorted(perm) != list(range(rank)):
        node.refuse(f"perm {perm}")
    if isinstance(given, Numbers):
        return given.like(given.data.transpose(perm))
    moved = [axis for axis in range(rank) if perm[axis] != axis]
    if not moved:
        return given
    if len(moved) == 2:
        return Value(f"{given.atom}.transpose({moved[0]}, {moved[1]})", rank, given.kind)
    return Value(f"{given.atom}.permute({_listed(perm)})", rank, given.kind)


def _unsqueeze(node: Node) -> Result:
    given, axes = node.given(0), node.axes(1) or []
    rank = None if given.rank is None else given.rank + len(axes)
    if min(axes, default=0) < 0 and len(axes) > 1:  # axes from the end count in the result
        rank = node.need(rank)
    placed = sorted(node.axis(axis, rank) for axis in axes)
    if isinstance(given, Numbers):
        return given.like(np.expand_dims(given.data, tuple(placed)))
    text = given.atom
    for axis in placed:
        text = f"{text}.unsqueeze({axis})"
    return Value(text, rank, given.kind)


def _squeeze(node: Node) -> Result:
    given, axes = node.given(0), node.axes(1)
    if isinstance(given, Numbers):
        return given.like(given.data.squeeze(None if axes is None else tuple(axes)))
    if axes is None:  # which axes go depends on sizes of the run
        return Value(f"{given.atom}.squeeze()", None, given.kind)
    rank = None if given.rank is None else given.rank - len(axes)
    placed = [node.axis(axis, given.rank) for axis in axes]
    return Value(f"{given.atom}.squeeze({placed[0] if len(placed) == 1 else tuple(placed)})", rank, given.kind)


def _concat(node: Node) -> Result:
    values = [node.given(slot) for slot in range(len(node.inputs))]
    axis = node.integer("axis", 1 if node.opset < 4 else -1)
    arrays = [value.data for value in values if isinstance(value, Numbers)]
    kind = widest(*values)
    if len(arrays) == len(values):
        return Numbers(np.concatenate(arrays, axis), kind)
    tensors = [node.tensor(slot) for slot in range(len(values))]
    rank = next((one.rank for one in tensors if one.rank is not None), None)
    if len(tensors) == 1:
        return tensors[0]
    return Value(f"torch.cat([{', '.join(one.text for one in tensors)}], {node.axis(axis, rank)})", rank, kind)


def _split(node: Node) -> Result:
    given = node.given(0)
    axis, count = node.axis(node.integer("axis", 0), given.rank), len(node.outputs)
    sizes = node.known(1) if node.has(1) else node.integers("split") if "split" in node.config else None
    if isinstance(given, Numbers):
        each = -(-given.data.shape[axis] // count)
        cuts = np.cumsum(sizes or [each] * count)[:-1]
        return tuple(given.like(one) for one in np.split(given.data, cuts, axis))
    parts = tuple(Value("{}", given.rank, given.kind) for _ in range(count))
    if sizes is not None:  # one number stands for equal parts, but PyTorch does not take 0 for them
        return Several(
            f"{given.atom}.split({sizes if len(set(sizes)) > 1 or not sizes[0] else sizes[0]}, {axis})", parts
        )
    return Several(f"{given.atom}.chunk({count}, {axis})", parts)


def _expand(node: Node) -> Result:
    """A broadcast in both directions: a size of 1 keeps that of the input, which is -1 for PyTorch."""
    given, sizes = node.given(0), node.given(1)
    if isinstance(sizes, Value):
        shape = f"torch.broadcast_shapes({node.x.atom}.shape, {sizes.atom}.tolist())"
        return Value(f"{node.x.atom}.expand({shape})", None, given.kind)
    wanted = node.list_of(1)
    if isinstance(given, Numbers):
        if all(isinstance(one, int) for one in wanted) and math.prod(int(one) for one in wanted) <= _MOST_WRITTEN:
            spread = np.broadcast_shapes(given.data.shape, tuple(int(one) for one in wanted))
            return given.like(np.broadcast_to(given.data, spread))
        if len(given.items) == 1:
            return _full(node, wanted, given)
        given = node.as_tensor(given)
    rank = node.need(given.rank)
    left = max(len(wanted) - rank, 0)
    kept = [-1] * max(rank - len(wanted), 0)
    sizes_ = [*kept, *(-1 if one == 1 and at >= left else one for at, one in enumerate(wanted))]
    if all(one == -1 for one in sizes_):
        return given
    return Value(f"{given.atom}.expand({_listed(sizes_)})", max(rank, len(wanted)), given.kind)


def _full(node: Node, sizes: Sequence[int | str], value: Numbers) -> Value:
    shape = f"({_listed(sizes)}{',' if len(sizes) == 1 else ''})"
    return Value(f"torch.full({shape}, {written(value.item)}, device={node.module.device})", len(sizes), value.kind)


def _constant_of_shape(node: Node) -> Result:
    given = node.config.get("value", [0.0])
    value = Numbers(objects(given).reshape(-1), INT if isinstance(given[0], int) else FLOAT)
    value = Numbers(value.data, BOOL if isinstance(given[0], bool) else value.kind)
    shape = node.given(0)
    if isinstance(shape, Value):
        return Value(f"torch.full({shape.atom}.tolist(), {written(value.item)}, device={node.module.device})", None)
    sizes = node.list_of(0)
    if all(isinstance(one, int) for one in sizes) and 0 <= math.prod(int(one) for one in sizes) <= _MOST_WRITTEN:
        return value.like(objects(np.full([int(one) for one in sizes], value.item, dtype=object)))
    return _full(node, sizes, value)


def _tile(node: Node) -> Result:
    given = node.given(0)
    if isinstance(given, Numbers) and all(isinstance(one, int) for one in node.list_of(1)):
        check_size(given.data.size * math.prod(node.known(1)))
        return given.like(np.tile(given.data, node.known(1)))
    repeats = node.list_of(1)
    x = node.x
    return x if set(repeats) == {1} else Value(f"{x.atom}.repeat({_listed(repeats)})", x.rank, x.kind)


def _range(node: Node) -> Result:
    bounds = [node.given(slot) for slot in range(3)]
    if all(isinstance(one, Numbers) and one.is_known for one in bounds):
        known: list[Any] = [one.item for one in bounds if isinstance(one, Numbers)]
        check_size((known[1] - known[0]) / known[2])
        values = np.arange(*known)
        if values.size <= _MOST_WRITTEN:
            return Numbers(objects(values.tolist()), bounds[0].kind)
    start, end, step = (node.scalar(slot) for slot in range(3))
    limits = end if (start, step) == ("0", "1") else f"{start}, {end}, {step}"
    return Value(f"torch.arange({limits}, device={node.module.device})", 1, widest(*bounds))


def padded(node: Node, x: Value, pads: Sequence[int | str], axes: Sequence[int], value: str, mode: str) -> Value:
    """A value with padding: `pads` has the sizes before the data for all axes, then the sizes after it."""
    rank = node.need(x.rank)
    sides: list[tuple[int | str, int | str]] = [(0, 0)] * rank
    for at, axis in enumerate(axes):
        sides[axis] = (pads[at], pads[at + len(axes)])
    while sides and sides[0] == (0, 0):
        sides.pop(0)
    if not sides:
        return x
    flat = [one for pair in reversed(sides) for one in pair]  # `F.pad` begins with the last axis
    more = "" if value in ("0", "0.0") else f", value={value}"
    more = more if mode == "constant" else f', mode="{mode}"'
    # The other modes of `F.pad` take the last axes only, with one or two axes before them.
    if mode != "constant" and not (rank - 2 <= len(sides) <= rank - 1 or rank == len(sides) + 1):
        node.refuse(f"mode {mode!r} over these axes")
    return Value(f"F.pad({x.text}, ({_listed(flat)}){more})", x.rank, x.kind)


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad(node: Node) -> Result:
    x, mode = node.x, _MODES[node.choice("mode", "constant", *_MODES)]
    name = "pads" if "pads" in node.config else "paddings"  # its name in version 1 of the operators
    pads = node.list_of(1) if node.has(1) else list[int | str](node.integers(name))
    value = node.scalar(2) if node.has(2) else written(node.number("value", 0.0))
    x = Value(x.text, x.rank if node.has(3) or x.rank is not None else len(pads) // 2, x.kind)
    axes = [node.axis(axis, x.rank) for axis in (node.known(3) if node.has(3) else range(len(pads) // 2))]
    return padded(node, x, pads, axes, value, mode)


def _depth_to_space(node: Node) -> Result:
    """`CRD` is the order of `F.pixel_shuffle`; in `DCR`, that of TensorFlow, the block stands before the channels."""
    size, mode = node.integer("blocksize", None), node.choice("mode", "DCR", "DCR", "CRD")
    if mode == "CRD":
        return Value(f"F.pixel_shuffle({node.x.text}, {size})", 4, node.x.kind)
    x = node.x.atom
    text = f"{x}.unflatten(1, ({size}, {size}, -1)).permute(0, 3, 4, 1, 5, 2).flatten(4).flatten(2, 3)"
    return Value(text, 4, node.x.kind)


def _space_to_depth(node: Node) -> Result:
    size, mode = node.integer("blocksize", None), node.choice("mode", "DCR", "DCR", "CRD")
    if mode == "CRD":
        return Value(f"F.pixel_unshuffle({node.x.text}, {size})", 4, node.x.kind)
    text = (
        f"{node.x.atom}.unflatten(3, (-1, {size})).unflatten(2, (-1, {size})).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)"
    )
    return Value(text, 4, node.x.kind)


def _triangular(node: Node) -> Result:
    function = "triu" if node.integer("upper", 1) else "tril"
    shift = node.scalar(1) if node.has(1) else "0"
    return Value(f"torch.{function}({node.x.text}{'' if shift == '0' else f', {shift}'})", node.x.rank, node.x.kind)


def _one_hot(node: Node) -> Result:
    """`F.one_hot` makes zeros and ones on the last axis; everything else is refused."""
    values = node.given(2)
    axis, depth = node.integer("axis", -1), node.scalar(1)
    if not isinstance(values, Numbers) or values.items not in ([0, 1], [0.0, 1.0]) or axis != -1:
        node.refuse("other values than 0 and 1, or another axis than the last")
    rank = None if node.x.rank is None else node.x.rank + 1
    ends = ".float()" if values.kind == FLOAT else ""
    return Value(f"F.one_hot({node.x.atom}.long(), int({depth})){ends}", rank, values.kind)


# Strings and sparse tensors are missing: no layer of a network takes them.
_CONSTANTS = ("value_int", "value_float", "value_ints", "value_floats", "value")


def _constant(node: Node) -> Result:
    name = next((one for one in _CONSTANTS if one in node.config), None)
    if name is None:
        node.refuse("a value that is no number")
    given = objects(node.config[name])
    return Numbers(given, FLOAT if "float" in name or isinstance(next(iter(given.flat), 0), float) else INT)


_FLOAT_TYPES = (1, 10, 11, 16)  # `TensorProto`: float32, float16, float64, bfloat16


def _eye_like(node: Node) -> Result:
    x, shift, dtype = node.x, node.integer("k", 0), node.integer("dtype", 0)
    sizes = f"{x.atom}.shape[0], {part(f'{x.atom}.shape[1]')}, device={node.module.device}"
    text = f"torch.ones({sizes}).tril({shift}).triu({shift})" if shift else f"torch.eye({sizes})"
    is_whole = dtype not in _FLOAT_TYPES if dtype else x.kind == INT
    return Value(f"{text}.long()", 2, INT) if is_whole else Value(text, 2)


SHAPING: dict[str, Callable[[Node], Result]] = {
    "Shape": _shape, "Size": _size, "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose,
    "Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Concat": _concat, "Split": _split, "Expand": _expand,
    "ConstantOfShape": _constant_of_shape, "Tile": _tile, "Range": _range, "Pad": _pad,
    "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "Trilu": _triangular, "OneHot": _one_hot,
    "Constant": _constant, "EyeLike": _eye_like,
}  # fmt: skip
