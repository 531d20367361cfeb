"""Norms, embeddings and PReLU as layers of PyTorch, or as functions if the weights belong to no layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from frostline.porting.scaffold.onnx.index_operators import gathered
from frostline.porting.scaffold.onnx.node import LayerTensor, Node, Result
from frostline.porting.scaffold.onnx.values import Numbers, Value
from frostline.porting.scaffold.python_text import literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.porting.readers.contract import SourceTensor

_LEAVES = {"scale", "B", "mean", "var", "weight", "bias"}


def _weights(node: Node, *slots: int) -> list[SourceTensor] | None:
    """The inputs as weights; None if one of them is not a weight of the file."""
    found = [weight for slot in slots if (weight := node.weight(slot)) is not None]
    return found if len(found) == len(slots) else None


def _layer(node: Node, made: str, weights: list[SourceTensor], names: tuple[str, ...]) -> str | None:
    """The expression of a layer with these weights, which have `names` in the layer; None if they are not one unit."""
    leaves = {weight.leaf for weight in weights}
    if not leaves <= _LEAVES or len(leaves) < len(weights):  # converters store equal weights once
        return None
    return node.module.weighted(made, {
        weight.leaf: LayerTensor(weight, own) for weight, own in zip(weights, names, strict=True)})  # fmt: skip


def _batch_norm(node: Node) -> Result:
    if node.integer("training_mode", 0) or not node.integer("is_test", 1) or any(node.outputs[1:]):
        node.refuse("it is in training")
    if not node.integer("spatial", 1):
        node.refuse("one mean for each place")
    eps, x = literal(node.number("epsilon", 1e-5)), node.x
    weights = _weights(node, 1, 2, 3, 4)
    if weights is not None and x.rank in (2, 3, 4, 5):
        momentum = 1 - node.number("momentum", 0.9)
        if not math.isfinite(momentum):
            node.refuse(f"momentum {1 - momentum}")
        more = "" if abs(momentum - 0.1) < 1e-6 else f", momentum={momentum:.3g}"
        more = (f", eps={eps}" if eps != "1e-05" else "") + more
        made = f"nn.BatchNorm{max(x.rank - 2, 1)}d({weights[0].shape[0]}{more})"
        found = _layer(node, made, weights, ("weight", "bias", "running_mean", "running_var"))
        if found:
            return Value(f"{found}({x.text})", x.rank)
    scale, bias, mean, variance = (node.tensor(slot).text for slot in (1, 2, 3, 4))
    return Value(f"F.batch_norm({x.text}, {mean}, {variance}, {scale}, {bias}, eps={eps})", x.rank)


def _instance_norm(node: Node) -> Result:
    eps, x = literal(node.number("epsilon", 1e-5)), node.x
    weights = _weights(node, 1, 2)
    if weights is not None and x.rank in (3, 4, 5):
        more = f", eps={eps}" if eps != "1e-05" else ""
        made = f"nn.InstanceNorm{x.rank - 2}d({weights[0].shape[0]}{more}, affine=True)"
        found = _layer(node, made, weights, ("weight", "bias"))
        if found:
            return Value(f"{found}({x.text})", x.rank)
    scale, bias = node.tensor(1).text, node.tensor(2).text
    return Value(f"F.instance_norm({x.text}, weight={scale}, bias={bias}, eps={eps})", x.rank)


def _layer_norm(node: Node) -> Result:
    if any(node.outputs[1:]):
        node.refuse("its mean or deviation is used")
    eps, x = literal(node.number("epsilon", 1e-5)), node.x
    axis = node.integer("axis", -1)
    count = -axis if axis < 0 else node.need(x.rank) - axis
    weights = _weights(node, 1, 2) if node.has(2) else _weights(node, 1)
    is_root = node.kind == "RMSNormalization"
    if weights is not None and len(weights[0].shape) == count:
        shape = weights[0].shape[0] if count == 1 else tuple(weights[0].shape)
        more = f", eps={eps}" if is_root or eps != "1e-05" else ""
        more += "" if is_root or node.has(2) else ", bias=False"
        made = f"nn.{'RMSNorm' if is_root else 'LayerNorm'}({shape}{more})"
        found = _layer(node, made, weights, ("weight", "bias")[: len(weights)])
        if found:
            return Value(f"{found}({x.text})", x.rank)
    scale = node.tensor(1)
    arguments = f"{scale.text}, " + (f"{node.tensor(2).text}, " if node.has(2) else "" if is_root else "None, ")
    function = "rms_norm" if is_root else "layer_norm"
    return Value(f"F.{function}({x.text}, {x.atom}.shape[-{count}:], {arguments}{eps})", x.rank)


def _group_norm(node: Node) -> Result:
    groups, eps, x = node.integer("num_groups", None), literal(node.number("epsilon", 1e-5)), node.x
    weights = _weights(node, 1, 2)
    if weights is not None and node.opset >= 21 and weights[0].shape[0] % groups == 0:
        more = f", eps={eps}" if eps != "1e-05" else ""
        found = _layer(node, f"nn.GroupNorm({groups}, {weights[0].shape[0]}{more})", weights, ("weight", "bias"))
        if found:
            return Value(f"{found}({x.text})", x.rank)
    texts = [node.tensor(slot).atom for slot in (1, 2)]
    if node.opset < 21:  # one number for each group
        texts = [f"{text}.repeat_interleave({x.atom}.shape[1] // {groups})" for text in texts]
    return Value(f"F.group_norm({x.text}, {groups}, {', '.join(texts)}, {eps})", x.rank)


def _gather(node: Node) -> Result:
    """A Gather: an embedding if it selects rows of a weight."""
    table, index = node.weight(0), node.given(1)
    is_table = table is not None and len(table.shape) == 2 and table.dtype.startswith(("float", "bfloat"))
    if table is not None and is_table and node.integer("axis", 0) == 0 and not isinstance(index, Numbers):
        rows, width = table.shape
        found = node.module.weighted(f"nn.Embedding({rows}, {width})", {"weight": LayerTensor(table, "weight")})
        if found:
            return Value(f"{found}({index.text})", None if index.rank is None else index.rank + 1)
    return gathered(node)


def _prelu(node: Node) -> Result:
    slope, x = node.weight(1), node.x
    if slope is not None and slope.shape and set(slope.shape[1:]) <= {1} and (x.rank or 0) > 1:
        # The slopes are those of channels if their first axis is broadcast to axis 1. Before version 7 of the operator
        # set they always were; a single slope fits any axis.
        is_of_channels = x.rank == len(slope.shape) + 1 or slope.shape[0] == 1 or node.opset < 7
        made, held = f"nn.PReLU({slope.shape[0]})", {"slope": LayerTensor(slope, "weight")}
        found = node.module.weighted(made, held) if is_of_channels else None
        if found:
            return Value(f"{found}({x.text})", x.rank)
    if node.opset < 7:
        node.refuse("slopes that are no layer's, of an old version of the operator")
    return Value(f"torch.where({x.atom} > 0, {x.text}, {node.tensor(1).atom} * {x.atom})", x.rank)


NORMS: dict[str, Callable[[Node], Result]] = {
    "BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm, "LayerNormalization": _layer_norm,
    "RMSNormalization": _layer_norm, "GroupNormalization": _group_norm, "Gather": _gather, "PRelu": _prelu,
}  # fmt: skip
