"""Operators that take elements by index, or write them: slice, gather, scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.porting.scaffold.onnx.node import Node, Result
from frostline.porting.scaffold.onnx.values import INT, Numbers, Value, objects

if TYPE_CHECKING:
    from collections.abc import Callable

# Exporters write "to the end" as the largest integer of 32 or 64 bits, from the end as its negative.
_FAR = 2**31 - 2  # the end of a slice from here on means the end of the axis


def _slice(node: Node) -> Result:
    """A slice; PyTorch has no negative steps, and of these only one that turns a whole axis has another form."""
    given = node.given(0)
    if node.has(1):  # since version 10 of the operators; settings before
        starts, ends = node.list_of(1), node.list_of(2)
        steps = node.known(4) if node.has(4) else [1] * len(starts)
        axes = node.known(3) if node.has(3) else list(range(len(starts)))
    else:
        starts, ends = [*node.integers("starts")], [*node.integers("ends")]
        axes, steps = node.integers("axes", list(range(len(starts)))), [1] * len(starts)
    if len({len(starts), len(ends), len(steps), len(axes)}) > 1:
        node.refuse("starts, ends, axes and steps of different numbers")
    rank = given.rank if min(axes, default=0) >= 0 else node.need(given.rank)
    ways = dict(zip([node.axis(axis, rank) for axis in axes], zip(starts, ends, steps, strict=True), strict=True))
    if isinstance(given, Numbers):
        if all(isinstance(one, int) for one in (*starts, *ends)):
            index: Any = [slice(None)] * given.rank
            for axis, (start, end, step) in ways.items():
                index[axis] = slice(start, None if step < 0 and isinstance(end, int) and end < -_FAR else end, step)
            return given.like(given.data[tuple(index)])
        given = node.as_tensor(given)
    flipped = [axis for axis, (_, _, step) in ways.items() if step < 0]
    for axis in flipped:
        start, end, step = ways.pop(axis)
        if step != -1 or start != -1 or not isinstance(end, int) or end >= -_FAR:
            node.refuse("a negative step that does not turn a whole axis")
    text = f"{given.atom}.flip({', '.join(map(str, flipped))})" if flipped else given.text
    cuts = [_cut(*ways[axis]) if axis in ways else ":" for axis in range(max(ways, default=-1) + 1)]
    while cuts and cuts[-1] == ":":
        cuts.pop()
    text = f"{text if flipped else given.atom}[{', '.join(cuts)}]" if cuts else text
    return Value(text, given.rank, given.kind)


def _cut(start: int | str, end: int | str, step: int) -> str:
    first = "" if start == 0 else str(start)
    last = "" if isinstance(end, int) and end >= _FAR else str(end)
    return f"{first}:{last}" + (f":{step}" if step != 1 else "")


def gathered(node: Node) -> Result:
    """Elements along one axis, such as rows of an embedding; of known numbers, known numbers."""
    given, index, axis = node.given(0), node.given(1), node.integer("axis", 0)
    if isinstance(given, Numbers):
        if isinstance(index, Numbers) and index.is_known:
            taken = np.take(given.data, index.data.astype(int), axis=axis)
            return given.like(objects(taken))
        given = node.as_tensor(given)
    axis = node.axis(axis, node.need(given.rank) if axis < 0 else None)
    rank = None if given.rank is None or index.rank is None else given.rank - 1 + index.rank
    return Value(f"{given.atom}[{':, ' * axis}{index.text}]", rank, given.kind)


def _gather_elements(node: Node) -> Result:
    axis = node.axis(node.integer("axis", 0), node.x.rank)
    return Value(f"torch.gather({node.x.text}, {axis}, {_counted(node, axis)})", node.x.rank, node.x.kind)


def _counted(node: Node, axis: int) -> str:
    """The indices of a node, made non-negative: PyTorch does not accept indices from the end here."""
    return f"{node.tensor(1).atom} % {node.x.atom}.shape[{axis}]"


def _places(node: Node, slot: int) -> str:
    """The expression of indices whose last axis enumerates the axes of the data, as a tuple of tensors."""
    return f"tuple({node.tensor(slot).atom}.movedim(-1, 0))"


def _gather_places(node: Node) -> Result:
    if node.integer("batch_dims", 0):
        node.refuse("batch_dims")
    return Value(f"{node.x.atom}[{_places(node, 1)}]", None, node.x.kind)


def _scattered_places(node: Node) -> Result:
    more = {"none": "", "add": ", accumulate=True"}[node.choice("reduction", "none", "none", "add")]
    return Value(f"{node.x.atom}.index_put({_places(node, 1)}, {node.tensor(2).text}{more})", node.x.rank, node.x.kind)


def _scattered(node: Node) -> Result:
    function = {"none": "scatter", "add": "scatter_add"}[node.choice("reduction", "none", "none", "add")]
    axis = node.axis(node.integer("axis", 0), node.x.rank)
    text = f"{node.x.atom}.{function}({axis}, {_counted(node, axis)}, {node.tensor(2).text})"
    return Value(text, node.x.rank, node.x.kind)


def _nonzero(node: Node) -> Result:
    return Value(f"{node.x.atom}.nonzero().T", 2, INT)


INDEXING: dict[str, Callable[[Node], Result]] = {
    "Slice": _slice, "Gather": gathered, "GatherElements": _gather_elements, "GatherND": _gather_places,
    "ScatterND": _scattered_places, "ScatterElements": _scattered, "NonZero": _nonzero,
}  # fmt: skip
