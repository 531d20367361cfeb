"""Elementwise operators: activations, arithmetic, comparisons.

Numbers that a file computes, mostly sizes, are computed in Python, when the module is written or when it runs; the
other values are tensors. Where ONNX and PyTorch differ in a default, the text states the value of the file.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.porting.scaffold.onnx.node import Given, Node, Result, highest, widest
from frostline.porting.scaffold.onnx.values import (
    BOOL,
    FLOAT,
    INT,
    Item,
    Numbers,
    Value,
    elementwise,
    operation,
    part,
    written,
)
from frostline.porting.scaffold.python_text import literal

if TYPE_CHECKING:
    from collections.abc import Callable

# A size of a value, as `arrangements.py` writes it.
_SIZE = re.compile(r"[\w.]+\.shape\[\d+\]")

_SIMPLE = {
    "Relu": "F.relu({})", "Sigmoid": "torch.sigmoid({})", "Tanh": "torch.tanh({})", "Softsign": "F.softsign({})",
    "HardSwish": "F.hardswish({})", "Mish": "F.mish({})", "Exp": "torch.exp({})", "Log": "torch.log({})",
    "Abs": "torch.abs({})", "Sign": "torch.sign({})", "Reciprocal": "torch.reciprocal({})", "Erf": "torch.erf({})",
    "Sin": "torch.sin({})", "Cos": "torch.cos({})", "Tan": "torch.tan({})", "Asin": "torch.asin({})",
    "Acos": "torch.acos({})", "Atan": "torch.atan({})", "Sinh": "torch.sinh({})", "Cosh": "torch.cosh({})",
    "Asinh": "torch.asinh({})", "Acosh": "torch.acosh({})", "Atanh": "torch.atanh({})", "Round": "torch.round({})",
    "Det": "torch.det({})",
}  # fmt: skip
_BOOLEAN = {"IsNaN": "torch.isnan({})", "Not": "~{}"}
# For numbers that Python computes: the function for known numbers, and the form for expressions.
_NUMBERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "Sqrt": (math.sqrt, "{} ** 0.5"), "Neg": (operator.neg, "-{}"), "Floor": (math.floor, "math.floor({})"),
    "Ceil": (math.ceil, "math.ceil({})"), "Abs": (abs, "abs({})"), "Reciprocal": (lambda x: 1 / x, "1 / {}"),
    "Not": (operator.not_, "not {}"), "Exp": (math.exp, "math.exp({})"), "Log": (math.log, "math.log({})"),
}  # fmt: skip
_TENSORS = {"Sqrt": "torch.sqrt({})", "Neg": "-{}", "Floor": "torch.floor({})", "Ceil": "torch.ceil({})"}


def _unary(form: str, kind: str = "") -> Callable[[Node], Result]:
    def apply(node: Node) -> Result:
        given = node.given(0)
        if isinstance(given, Numbers) and node.kind in _NUMBERS:
            compute, template = _NUMBERS[node.kind]
            made = kind or (INT if node.kind in ("Floor", "Ceil") else given.kind if node.kind == "Neg" else FLOAT)
            return elementwise(
                lambda one: template.format(part(one)) if isinstance(one, str) else compute(one), given, kind=made
            )
        x = node.x
        return Value(form.format(x.atom if form[0] in "~-" else x.text), x.rank, kind or x.kind)

    return apply


def _infinite(node: Node) -> Result:
    signs = bool(node.integer("detect_negative", 1)), bool(node.integer("detect_positive", 1))
    function = {(True, True): "isinf", (True, False): "isneginf", (False, True): "isposinf"}.get(signs)
    if function is None:
        node.refuse("neither sign is looked for")
    return Value(f"torch.{function}({node.x.text})", node.x.rank, BOOL)


def _cast(node: Node) -> Result:
    """One type for each kind: the module has one float type, and whole numbers are indices or sizes in networks."""
    given, to = node.given(0), node.integer("to", 1)
    kind = BOOL if to == 9 else FLOAT if to in (1, 10, 11, 16) else INT
    if isinstance(given, Numbers):
        convert: Callable[[Any], Any] = {BOOL: bool, FLOAT: float, INT: int}[kind]
        is_cut = given.kind == FLOAT and kind == INT  # `int` cuts toward zero, as the operator does
        return elementwise(
            lambda one: (f"int({one})" if is_cut else one) if isinstance(one, str) else convert(one), given, kind=kind
        )
    if given.kind == kind:
        return given
    return Value(f"{given.atom}.{ {BOOL: 'bool', FLOAT: 'float', INT: 'long'}[kind] }()", given.rank, kind)


def _cast_like(node: Node) -> Result:
    to = {BOOL: 9, FLOAT: 1, INT: 7}[node.given(1).kind]
    return _cast(replace(node, config={**node.config, "to": to}))


def _operand(node: Node, value: Given, other: Given) -> str:
    """The text of an operand: a single number as a number, unless it would add axes to the result."""
    if isinstance(value, Value):
        return value.atom
    if len(value.items) == 1 and (other.rank is None or value.rank <= other.rank):
        return part(value.item)
    return node.as_tensor(value).atom


def _binary(sign: str, compute: Callable[[Any, Any], Any], kind: str = "") -> Callable[[Node], Result]:
    def apply(node: Node) -> Result:
        result = node.given(0)
        for slot in range(1, len(node.inputs)):
            result = _combined(node, sign, compute, result, node.given(slot), kind)
        return result

    return apply


def _combined(
    node: Node, sign: str, compute: Callable[[Any, Any], Any], one: Given, other: Given, kind: str
) -> Given:  # fmt: skip
    made = kind or widest(one, other)
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return elementwise(operation(sign, compute), one, other, kind=made)
    text = f"{_operand(node, one, other)} {sign} {_operand(node, other, one)}"
    return Value(text, highest(one, other), made)


def _divided(node: Node) -> Result:
    """Whole numbers are divided toward zero in ONNX; `//` floors, which is the same for sizes, as they are positive."""
    one, other = node.given(0), node.given(1)
    if widest(one, other) == FLOAT:
        return _combined(node, "/", operator.truediv, one, other, FLOAT)
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return elementwise(operation("//", lambda a, b: int(a / b)), one, other, kind=INT)
    # Arguments of a function need no parentheses.
    x, y = (_operand(node, *pair).removeprefix("(").removesuffix(")") for pair in ((one, other), (other, one)))
    return Value(f'torch.div({x}, {y}, rounding_mode="trunc")', highest(one, other), INT)


def _modulo(node: Node) -> Result:
    one, other = node.given(0), node.given(1)
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return elementwise(operation("%", operator.mod), one, other, kind=widest(one, other))
    # The sign of the result is that of the first number, as in C, or that of the second, as in Python.
    function = "torch.fmod" if node.integer("fmod", 0) else "torch.remainder"
    text = f"{function}({_operand(node, one, other)}, {_operand(node, other, one)})"
    return Value(text, highest(one, other), widest(one, other))


def _power_of(base: float, exponent: float) -> float:
    if abs(exponent) > 64 or abs(base) > 2**31:  # too large for any network, and slow to compute
        raise ValueError(f"{base} to the power of {exponent}")
    return base**exponent


def _power(node: Node) -> Result:
    one, other = node.given(0), node.given(1)
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return elementwise(operation("**", _power_of), one, other, kind=one.kind)
    exponent = _operand(node, other, one)
    base = _operand(node, one, other)
    return Value(f"{base} ** {exponent}", highest(one, other), one.kind)


def _compared(sign: str, compute: Callable[[Any, Any], bool]) -> Callable[[Node], Result]:
    """A comparison. Exporters compare sizes with 0 and -1, which they never are: no branch on it is written."""

    def items(one: Item, other: Item) -> Item:
        for size, known in ((one, other), (other, one)):
            if isinstance(size, str) and _SIZE.fullmatch(size) and known in (0, -1) and sign == "==":
                return False
        return operation(sign, compute)(one, other)

    def apply(node: Node) -> Result:
        one, other = node.given(0), node.given(1)
        if isinstance(one, Numbers) and isinstance(other, Numbers):
            return elementwise(items, one, other, kind=BOOL)
        text = f"{_operand(node, one, other)} {sign} {_operand(node, other, one)}"
        return Value(text, highest(one, other), BOOL)

    return apply


def _extremes(function: str, compute: Callable[..., Any], bound: str) -> Callable[[Node], Result]:
    """The larger or smaller of values: `clamp` where one is a number, as a ReLU with a bound is often stored."""

    def items(one: Item, other: Item) -> Item:
        if isinstance(one, str) or isinstance(other, str):
            return f"{compute.__name__}({written(one)}, {written(other)})"
        return compute(one, other)

    def pair(node: Node, one: Given, other: Given) -> Given:
        kind, rank = widest(one, other), highest(one, other)
        if isinstance(one, Numbers) and isinstance(other, Numbers):
            return elementwise(items, one, other, kind=kind)
        for tensor, number in ((one, other), (other, one)):
            if isinstance(tensor, Value) and isinstance(number, Numbers) and len(number.items) == 1:
                return Value(f"{tensor.atom}.clamp({bound}={written(number.item)})", rank, kind)
        texts = (v.text if isinstance(v, Value) else node.as_tensor(v).text for v in (one, other))
        return Value(f"torch.{function}({', '.join(texts)})", rank, kind)

    def apply(node: Node) -> Result:
        result = node.given(0)
        for slot in range(1, len(node.inputs)):
            result = pair(node, result, node.given(slot))
        return result

    return apply


def _sum(node: Node) -> Value:
    values = [node.tensor(slot) for slot in range(len(node.inputs))]
    return Value(" + ".join(one.atom for one in values), highest(*values), widest(*values))


def _mean(node: Node) -> Result:
    total, count = _sum(node), len(node.inputs)
    return total if count == 1 else Value(f"({total.text}) / {count}", total.rank)


def _clip(node: Node) -> Result:
    """Bounds are inputs since version 11 of the operators, settings before; both may be left out."""
    x = node.x
    low = node.scalar(1) if node.has(1) else literal(node.number("min", -math.inf)) if "min" in node.config else "None"
    high = node.scalar(2) if node.has(2) else literal(node.number("max", math.inf)) if "max" in node.config else "None"
    if (low, high) in (("0", "6"), ("0.0", "6.0")):
        return Value(f"F.relu6({x.text})", x.rank, x.kind)
    bounds = f"min={low}" if high == "None" else f"max={high}" if low == "None" else f"{low}, {high}"
    return x if low == high == "None" else Value(f"{x.atom}.clamp({bounds})", x.rank, x.kind)


def _where(node: Node) -> Result:
    condition, one, other = (node.given(slot) for slot in range(3))
    if all(isinstance(value, Numbers) for value in (condition, one, other)):
        arrays = [value for value in (condition, one, other) if isinstance(value, Numbers)]
        return elementwise(_chosen, *arrays, kind=widest(one, other))
    rank, kind = highest(condition, one, other), widest(one, other)
    texts = [value.text if isinstance(value, Value) else
             written(value.item) if len(value.items) == 1 and not isinstance(other_, Numbers)
             else node.as_tensor(value).text for value, other_ in ((one, other), (other, one))]  # fmt: skip
    condition_text = condition.text if isinstance(condition, Value) else node.as_tensor(condition).text
    return Value(f"torch.where({condition_text}, {', '.join(texts)})", rank, kind)


def _chosen(condition: Item, one: Item, other: Item) -> Item:
    if isinstance(condition, str):
        return f"({written(one)} if {condition} else {written(other)})"
    return one if condition else other


def _leaky(node: Node) -> Result:
    return Value(f"F.leaky_relu({node.x.text}, {literal(node.number('alpha', 0.01))})", node.x.rank)


def _elu(node: Node) -> Result:
    """`Celu` differs from `Elu` in that its input is divided by alpha, so that it is smooth at 0 for every alpha."""
    alpha = node.number("alpha", 1.0)
    function = "celu" if node.kind == "Celu" else "elu"
    return Value(f"F.{function}({node.x.text}{'' if alpha == 1 else f', {literal(alpha)}'})", node.x.rank)


# Alpha and gamma of Klambauer et al. (2017) in float32, the defaults of ONNX and the only values of `F.selu`.
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


def _selu(node: Node) -> Result:
    alpha, gamma = node.number("alpha", _SELU[0]), node.number("gamma", _SELU[1])
    if abs(alpha - _SELU[0]) + abs(gamma - _SELU[1]) > 1e-5:
        return Value(f"{literal(gamma)} * F.elu({node.x.text}, {literal(alpha)})", node.x.rank)
    return Value(f"F.selu({node.x.text})", node.x.rank)


def _gelu(node: Node) -> Result:
    kind = node.choice("approximate", "none", "none", "tanh")
    more = ', approximate="tanh"' if kind == "tanh" else ""
    return Value(f"F.gelu({node.x.text}{more})", node.x.rank)


def _hard_sigmoid(node: Node) -> Result:
    """`F.hardsigmoid` has the slope 1/6; the default of ONNX is 1/5, that of old Keras."""
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return Value(f"F.hardsigmoid({node.x.text})", node.x.rank)
    return Value(f"({literal(alpha)} * {node.x.atom} + {literal(beta)}).clamp(0, 1)", node.x.rank)


def _softplus(node: Node) -> Result:
    return Value(f"F.softplus({node.x.text})", node.x.rank)


def _swish(node: Node) -> Result:
    """`F.silu` has no factor inside of its sigmoid."""
    alpha, x = node.number("alpha", 1.0), node.x
    text = f"F.silu({x.text})" if alpha == 1 else f"{x.atom} * torch.sigmoid({literal(alpha)} * {x.atom})"
    return Value(text, x.rank)


def _thresholded(node: Node) -> Result:
    return Value(f"F.threshold({node.x.text}, {literal(node.number('alpha', 1.0))}, 0)", node.x.rank)


def _shrunk(node: Node) -> Result:
    """Two of all cases have a function: without a bias the hard shrinkage, with its bound as the bias the soft one."""
    bias, lambd, x = node.number("bias", 0.0), node.number("lambd", 0.5), node.x
    if bias not in (0.0, lambd):
        node.refuse("a bias that is not its bound")
    return Value(f"F.{'hard' if bias == 0 else 'soft'}shrink({x.text}, {literal(lambd)})", x.rank)


def _passed(node: Node) -> Result:
    return node.given(0)


def _dropout(node: Node) -> Result:
    """A layer, so that the module can be trained on; nothing where the file drops nothing."""
    if len(node.outputs) > 1 and node.outputs[1]:
        node.refuse("its mask is used")
    given = node.given(1) if node.has(1) else None  # since version 12 of the operators; a setting before
    ratio = given.item if isinstance(given, Numbers) else node.number("ratio", 0.5)
    if not isinstance(ratio, float) or not 0 < ratio < 1:
        return node.given(0)
    return Value(f"{node.module.layer(node.readable, f'nn.Dropout({literal(ratio)})')}({node.x.text})", node.x.rank)


ELEMENTWISE: dict[str, Callable[[Node], Result]] = {
    **{kind: _unary(form) for kind, form in {**_SIMPLE, **_TENSORS}.items()},
    **{kind: _unary(form, BOOL) for kind, form in _BOOLEAN.items()},
    "Add": _binary("+", operator.add), "Sub": _binary("-", operator.sub), "Mul": _binary("*", operator.mul),
    "Sum": _sum, "Div": _divided, "Mod": _modulo, "Pow": _power, "Mean": _mean,
    "And": _binary("&", lambda a, b: a and b, BOOL), "Or": _binary("|", lambda a, b: a or b, BOOL),
    "Xor": _binary("^", operator.xor, BOOL),
    "Equal": _compared("==", operator.eq), "Greater": _compared(">", operator.gt), "Less": _compared("<", operator.lt),
    "GreaterOrEqual": _compared(">=", operator.ge), "LessOrEqual": _compared("<=", operator.le),
    "Max": _extremes("maximum", max, "min"), "Min": _extremes("minimum", min, "max"),
    "IsInf": _infinite, "CastLike": _cast_like,
    "Cast": _cast, "Clip": _clip, "Where": _where, "LeakyRelu": _leaky, "Elu": _elu, "Celu": _elu, "Selu": _selu,
    "Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "Softplus": _softplus, "Swish": _swish,
    "ThresholdedRelu": _thresholded, "Shrink": _shrunk, "Identity": _passed, "Dropout": _dropout,
}  # fmt: skip
