"""Operators along axes: sums, means, softmax, matrix products, largest values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from frostline.porting.scaffold.onnx.node import Node, Result, Several, highest
from frostline.porting.scaffold.onnx.values import INT, Numbers, Value, objects, part
from frostline.porting.scaffold.python_text import literal

if TYPE_CHECKING:
    from collections.abc import Callable

_EQUATION = re.compile(r"[A-Za-z,.\s]+(->[A-Za-z.\s]*)?")


def _reduced(form: str, *, takes_all: bool = False) -> Callable[[Node], Result]:
    """The translation of a reduction; the two `{}` of `form` are the value and the axes."""

    def apply(node: Node) -> Result:
        given, axes, keeps = node.given(0), node.axes(1), bool(node.integer("keepdims", 1))
        if isinstance(given, Numbers):
            if node.kind == "ReduceProd" and len(given.items) == 1:
                return given if keeps else given.like(given.data.reshape(()))
            if node.kind == "ReduceProd":
                product = _product(given) if given.is_known else " * ".join(part(one) for one in given.items)
                return Numbers(objects([product] if keeps else product), given.kind)
            given = node.as_tensor(given)
        if not axes and node.integer("noop_with_empty_axes", 0):
            return given
        rank = given.rank
        placed = sorted(node.axis(axis, rank) for axis in axes or ())
        if not axes:
            placed = list(range(node.need(rank))) if keeps or not takes_all else []
        axes_text = "" if not placed else str(placed[0]) if len(placed) == 1 else str(tuple(placed))
        axes_text += ", keepdim=True" if keeps else ""
        after = None if rank is None else rank if keeps else rank - (len(placed) or rank)
        return Value(form.format(given.atom, axes_text), after, given.kind)

    return apply


def _product(given: Numbers) -> int:
    made = 1
    for one in given.items:
        made *= int(one)
    return made


def _multiplied(node: Node) -> Result:
    """ReduceProd; a tensor is reduced along one axis only."""
    given = node.given(0)
    if isinstance(given, Numbers):
        return _reduced("")(node)
    axes = node.axes(1)
    if axes is None or len(axes) != 1:
        node.refuse("not over one axis")
    return _reduced("{}.prod({})")(node)


def _softmax(node: Node) -> Result:
    x, function = node.x, "log_softmax" if node.kind == "LogSoftmax" else "softmax"
    axis = node.axis(node.integer("axis", -1 if node.opset >= 13 else 1), x.rank)
    if node.opset >= 13 or axis in (-1, None if x.rank is None else x.rank - 1):
        return Value(f"F.{function}({x.text}, {axis})", x.rank)
    # Older versions compute one softmax over all axes from this one on.
    text = f"F.{function}({x.atom}.flatten({axis}), {axis}).reshape({x.atom}.shape)"
    return Value(text, x.rank)


def _arg(function: str) -> Callable[[Node], Result]:
    def apply(node: Node) -> Result:
        axis, keeps = node.axis(node.integer("axis", 0), node.x.rank), node.integer("keepdims", 1)
        if node.integer("select_last_index", 0):
            node.refuse("the last index among equal values")
        rank = None if node.x.rank is None else node.x.rank - (not keeps)
        return Value(f"{node.x.atom}.{function}({axis}{', keepdim=True' if keeps else ''})", rank, INT)

    return apply


def _top(node: Node) -> Result:
    x = node.x
    count = str(node.list_of(1)[0]) if node.has(1) else str(node.integer("k", None))
    axis = node.axis(node.integer("axis", -1), x.rank)
    more = ", descending=True" if node.integer("largest", 1) else ""
    kept = f"{{}}.narrow({axis}, 0, {count})"  # the first of equal values, as in ONNX: `topk` may take any
    values = (Value(kept, x.rank, x.kind), Value(kept, x.rank, INT))
    return Several(f"{x.atom}.sort(dim={axis}{more}, stable=True)", values)


def _cumulated(node: Node) -> Result:
    if node.integer("exclusive", 0):
        node.refuse("exclusive sums")
    (axis,) = node.known(1)
    axis, x = node.axis(axis, node.x.rank), node.x
    if node.integer("reverse", 0):
        return Value(f"{x.atom}.flip({axis}).cumsum({axis}).flip({axis})", x.rank, x.kind)
    return Value(f"{x.atom}.cumsum({axis})", x.rank, x.kind)


def _einsum(node: Node) -> Result:
    equation = node.config.get("equation")
    if not isinstance(equation, str) or not _EQUATION.fullmatch(equation):
        node.refuse(f"the equation {equation!r}")
    tensors = [node.tensor(slot) for slot in range(len(node.inputs))]
    after = equation.partition("->")[2].replace(" ", "")
    rank = len(after) if after and "." not in after else None
    compact = equation.replace(" ", "")
    return Value(f'torch.einsum("{compact}", {", ".join(one.text for one in tensors)})', rank)


def product(node: Node) -> Value:
    """The product of two matrices, or of stacks of them."""
    one, other = node.tensor(0), node.tensor(1)
    rank = highest(one, other)
    if rank is not None and 1 in (one.rank, other.rank):
        rank -= 1 if one.rank != other.rank else 0
    return Value(f"{one.atom} @ {other.atom}", rank)


def _normalized(node: Node) -> Result:
    axis, order = node.axis(node.integer("axis", -1), node.x.rank), node.integer("p", 2)
    return Value(f"F.normalize({node.x.text}, p={order}, dim={axis}, eps=1e-30)", node.x.rank)


def _local_response(node: Node) -> Result:
    size, alpha = node.integer("size", None), node.number("alpha", 1e-4)
    if size % 2 == 0:
        node.refuse("an even size")
    more = f"{size}, {literal(alpha)}, {literal(node.number('beta', 0.75))}, {literal(node.number('bias', 1.0))}"
    return Value(f"F.local_response_norm({node.x.text}, {more})", node.x.rank)


def _mean_variance(node: Node) -> Result:
    axes = tuple(node.integers("axes", [0, 2, 3]))
    x = node.x.atom
    text = f"({x} - {x}.mean({axes}, keepdim=True)) / ({x}.std({axes}, correction=0, keepdim=True) + 1e-9)"
    return Value(text, node.x.rank)


REDUCTIONS: dict[str, Callable[[Node], Result]] = {
    "ReduceMean": _reduced("{}.mean({})", takes_all=True), "ReduceSum": _reduced("{}.sum({})", takes_all=True),
    "ReduceMax": _reduced("{}.amax({})", takes_all=True), "ReduceMin": _reduced("{}.amin({})", takes_all=True),
    "ReduceProd": _multiplied, "ReduceL1": _reduced("{}.abs().sum({})", takes_all=True),
    "ReduceL2": _reduced("{}.square().sum({}).sqrt()", takes_all=True),
    "ReduceSumSquare": _reduced("{}.square().sum({})", takes_all=True),
    "ReduceLogSum": _reduced("{}.sum({}).log()", takes_all=True),
    "ReduceLogSumExp": _reduced("{}.logsumexp({})"),
    "Softmax": _softmax, "LogSoftmax": _softmax, "ArgMax": _arg("argmax"), "ArgMin": _arg("argmin"), "TopK": _top,
    "CumSum": _cumulated, "Einsum": _einsum, "LpNormalization": _normalized, "LRN": _local_response,
    "MeanVarianceNormalization": _mean_variance,
}  # fmt: skip
