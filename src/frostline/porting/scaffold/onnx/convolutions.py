"""Convolutions and matrix products as layers of PyTorch, or as functions if the weights belong to no layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.scaffold.onnx.node import LayerTensor, Node, Result
from frostline.porting.scaffold.onnx.reductions import product
from frostline.porting.scaffold.onnx.values import Numbers, Value
from frostline.porting.scaffold.onnx.windows import Window, window, with_padding
from frostline.porting.scaffold.python_text import literal, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.porting.readers.contract import SourceTensor


def _kernel(node: Node) -> tuple[int, ...]:
    weight = node.weight(1)
    if weight is None and "kernel_shape" not in node.config:
        node.refuse("its kernel is computed, and its size is not stated")
    return tuple(weight.shape[2:]) if weight is not None else tuple(node.integers("kernel_shape"))


def _held(weight: SourceTensor, bias: SourceTensor | None, *, is_transposed: bool = False) -> dict[str, LayerTensor]:
    leaves = {"weight": LayerTensor(weight, "weight", is_transposed)}
    return leaves if bias is None else {**leaves, "bias": LayerTensor(bias, "bias")}


def _conv(node: Node) -> Result:
    one, groups = window(node, _kernel(node)), node.integer("group", 1)
    fits = one.is_symmetric
    x = node.x if fits else with_padding(node, node.x, one)
    options = one.options() + (one.padding() if fits else "") + (f", groups={groups}" if groups != 1 else "")
    return _layer_or_function(node, x, one, options, f"Conv{one.axes}d", f"F.conv{one.axes}d", groups, is_back=False)


def _layer_or_function(
    node: Node, x: Value, one: Window, options: str, layer: str, function: str, groups: int, *, is_back: bool
) -> Value:  # fmt: skip
    weight, bias = node.weight(1), node.weight(2)
    rank = 2 + one.axes
    if weight is not None and len(weight.shape) == rank and (bias is not None or not node.has(2)):
        first, second = weight.shape[:2]
        ins, outs = (first, second * groups) if is_back else (second * groups, first)
        more = options if bias is not None else f"{options}, bias=False"
        made = f"nn.{layer}({ins}, {outs}, {short(one.kernel)}{more})"
        found = node.module.weighted(made, _held(weight, bias))
        if found:
            return Value(f"{found}({x.text})", rank)
    given = ", ".join(node.tensor(slot).text for slot in (1, 2) if node.has(slot))
    return Value(f"{function}({x.text}, {given}{options})", rank)


def _transposed_conv(node: Node) -> Result:
    kernel = _kernel(node)
    if "output_shape" in node.config:
        node.refuse("output_shape, whose padding depends on the size of the data")
    one, groups = window(node, kernel), node.integer("group", 1)
    more = node.integers("output_padding", [0] * one.axes)
    same = node.config.get("auto_pad", "")
    before, after = list(one.before), list(one.after)
    if same in ("SAME_UPPER", "SAME_LOWER"):
        for axis, size in enumerate(kernel):
            total = (size - 1) * one.dilation[axis] + 1 + more[axis] - one.stride[axis]
            if total < 0:
                node.refuse("SAME with a kernel that is smaller than its stride, which runtimes compute in other ways")
            small, large = total // 2, total - total // 2
            before[axis], after[axis] = (small, large) if same == "SAME_UPPER" else (large, small)
    # A smaller crop at the end than at the start is additional output there (`output_padding`).
    cuts = [min(pair) for pair in zip(before, after, strict=True)]
    rests = [(first - cut, last - cut) for first, last, cut in zip(before, after, cuts, strict=True)]
    for axis, (_, last) in enumerate(rests):
        used = min(last, more[axis])
        more[axis] -= used
        rests[axis] = (rests[axis][0], last - used)
    limits = [max(step, wide) for step, wide in zip(one.stride, one.dilation, strict=True)]
    if any(size >= limit for size, limit in zip(more, limits, strict=True)):
        node.refuse(f"output_padding {more} of strides {one.stride}")
    one = Window(kernel, one.stride, one.dilation, tuple(cuts), tuple(cuts), "")
    options = one.options() + one.padding() + (f", output_padding={short(more)}" if any(more) else "")
    options += f", groups={groups}" if groups != 1 else ""
    names = f"ConvTranspose{one.axes}d", f"F.conv_transpose{one.axes}d"
    made = _layer_or_function(node, node.x, one, options, *names, groups, is_back=True)
    rim = [f"{first or ''}:{-last if last else ''}" for first, last in rests]
    return Value(f"{made.text}[:, :, {', '.join(rim)}]", made.rank) if set(rim) != {":"} else made


def _linear(node: Node, weight: SourceTensor, bias: SourceTensor | None) -> Value | None:
    """The linear layer for a product with a matrix; None if the weights do not belong to one layer."""
    is_back = not node.config.get("transB")
    if len(weight.shape) != 2 or (bias is not None and bias.shape != (weight.shape[1 if is_back else 0],)):
        return None
    ins, outs = weight.shape if is_back else weight.shape[::-1]
    made = f"nn.Linear({ins}, {outs}{'' if bias is not None else ', bias=False'})"
    found = node.module.weighted(made, _held(weight, bias, is_transposed=is_back))
    return Value(f"{found}({node.x.text})", node.x.rank) if found else None


def _gemm(node: Node) -> Result:
    alpha, beta, turned = node.number("alpha", 1.0), node.number("beta", 1.0), node.integer("transA", 0)
    weight, bias = node.weight(1), node.weight(2)
    if alpha == beta == 1 and not turned and weight is not None and (bias is not None or not node.has(2)):
        found = _linear(node, weight, bias)
        if found is not None:
            return Value(found.text, 2)
    one, other = node.x.atom, node.tensor(1).atom
    one = f"{one}.T" if turned else one
    other = f"{other}.T" if node.config.get("transB") else other
    text = f"{one} @ {other}" if alpha == 1 else f"{literal(alpha)} * ({one} @ {other})"
    if node.has(2):
        given = node.given(2)
        added = node.as_tensor(given).atom if isinstance(given, Numbers) else given.atom
        text += f" + {added}" if beta == 1 else f" + {literal(beta)} * {added}"
    return Value(text, 2)


def _matmul(node: Node) -> Result:
    weight = node.weight(1)
    if weight is not None:
        found = _linear(node, weight, node.bias)
        if found is not None:
            return found
    turned = ".T" if node.config.get("transB") else ""
    made = product(node)
    made = Value(f"{made.text}{turned}", made.rank)
    return Value(f"{made.text} + {node.module.parameter(node.bias).text}", made.rank) if node.bias else made


CONVOLUTIONS: dict[str, Callable[[Node], Result]] = {
    "Conv": _conv, "ConvTranspose": _transposed_conv, "Gemm": _gemm, "MatMul": _matmul,
}  # fmt: skip
