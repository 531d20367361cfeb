"""Layers without weights as expressions: activations, sums, shapes, pooling.

Each function returns the expression in `__init__`, or an empty text, and the expression in `forward`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.porting.interpreter.merges import SAME
from frostline.porting.scaffold.keras.call import Call, first, last, over_channels
from frostline.porting.scaffold.keras.masks import LOGIC
from frostline.porting.scaffold.python_text import decimal, short

if TYPE_CHECKING:
    from collections.abc import Callable

Written = tuple[str, str]

_ACTIVATIONS = {
    "linear": "{}", "relu": "F.relu({})", "relu6": "F.relu6({})", "tanh": "torch.tanh({})", "elu": "F.elu({})",
    "sigmoid": "torch.sigmoid({})", "selu": "F.selu({})", "gelu": "F.gelu({})", "swish": "F.silu({})",
    "silu": "F.silu({})", "softplus": "F.softplus({})", "softsign": "F.softsign({})", "mish": "F.mish({})",
    "exponential": "torch.exp({})", "leaky_relu": "F.leaky_relu({}, 0.2)", "hard_silu": "F.hardswish({})",
    "hard_swish": "F.hardswish({})", "celu": "F.celu({})", "log_sigmoid": "F.logsigmoid({})",
    "hard_tanh": "F.hardtanh({})", "tanh_shrink": "F.tanhshrink({})", "soft_shrink": "F.softshrink({})",
    "hard_shrink": "F.hardshrink({})",
}  # fmt: skip


def activated(call: Call, expression: str, rank: int) -> str:
    """The expression with the activation of the layer applied."""
    given: Any = call.config.get("activation") or "linear"
    if isinstance(given, dict):  # a layer as activation
        kind, config = given.get("class_name"), given.get("config")
        if kind not in _AS_ACTIVATION or not isinstance(config, dict):
            call.refuse(f"activation {kind!r}")
        return FUNCTIONS[kind](replace(call, inputs=(expression,), shapes=(call.shape,), config=config))[1]
    if given in ("softmax", "log_softmax"):
        return f"F.{given}({expression}, {1 if rank > 3 else -1})"
    if given == "hard_sigmoid":  # Keras 3 has the slope 1/6 of PyTorch; it was 1/5 before
        return f"F.hardsigmoid({expression})" if call.version >= 3 else f"(0.2 * {expression} + 0.5).clamp(0, 1)"
    if not isinstance(given, str) or given not in _ACTIVATIONS:
        call.refuse(f"activation {given!r}")
    return _ACTIVATIONS[given].format(expression)


_AS_ACTIVATION = ("ReLU", "LeakyReLU", "ELU", "Softmax")


def _relu(call: Call) -> Written:
    slope, threshold = call.number("negative_slope", 0), call.number("threshold", 0)
    largest = call.config.get("max_value")
    if threshold:
        call.refuse("a threshold")
    if largest is None:
        return "", f"F.leaky_relu({call.x}, {decimal(slope)})" if slope else f"F.relu({call.x})"
    bound = decimal(call.number("max_value", 0))
    return (
        "",
        f"F.leaky_relu({call.x}, {decimal(slope)}).clamp(max={bound})" if slope else f"{call.x}.clamp(0, {bound})",
    )


def _thresholded(call: Call) -> Written:
    return "", f"F.threshold({call.x}, {decimal(call.number('theta', 1))}, 0)"


def _unit_normalized(call: Call) -> Written:
    axis = call.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    return "", f"F.normalize({call.x}, dim={_axis(call, axis)}, eps=1e-6)"


def _leaky(call: Call) -> Written:
    """The slope has another name in Keras 3, and in both another default (0.3) than in PyTorch (0.01)."""
    name = "negative_slope" if "negative_slope" in call.config else "alpha"
    return "", f"F.leaky_relu({call.x}, {decimal(call.number(name, 0.3))})"


def _axis(call: Call, axis: Any) -> int:
    """The axis of the module for an axis of the file."""
    if not isinstance(axis, int):
        call.refuse(f"axis {axis!r}")
    at = axis % call.rank  # of images and volumes the last axis is 1 in the module, and the others follow it
    if call.rank <= 3 or at == 0:
        return at
    return 1 if at == call.rank - 1 else at + 1


def _check_no_mask(call: Call) -> None:
    """Refuse layers of Keras that pass a mask on or not, depending on the version."""
    if any(call.masks) and "trainable" in call.config and call.version != 2:
        call.refuse("padded steps, which versions of Keras treat differently here")


def _joined(sign: str) -> Callable[[Call], Written]:
    def written(call: Call) -> Written:
        if sign == "*":
            _check_no_mask(call)
        stated: Any = call.config.get("call")
        if len(call.inputs) == 1 and isinstance(stated, dict):  # an operation on a tensor and a number
            return "", f" {sign} ".join(_operand(call, one) for one in stated.get("args") or ())
        _check_ranks(call)
        return "", f" {sign} ".join(call.inputs)

    return written


def _operand(call: Call, given: Any) -> str:
    if given is None:
        return call.x
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        call.refuse(f"the operand {given!r}")
    return decimal(given)


def _averaged(call: Call) -> Written:
    _check_ranks(call)
    return "", f"({' + '.join(call.inputs)}) / {len(call.inputs)}"


def _pairwise(function: str) -> Callable[[Call], Written]:
    def written(call: Call) -> Written:
        _check_no_mask(call)
        _check_ranks(call)
        made = call.inputs[0]
        for other in call.inputs[1:]:
            made = f"torch.{function}({made}, {other})"
        return "", made

    return written


def _check_ranks(call: Call) -> None:
    if len(call.inputs) < 2 or len({len(shape) for shape in call.shapes}) > 1 or "call" in call.config:
        call.refuse("other inputs than values of one number of axes")


def _concatenated(call: Call) -> Written:
    _check_ranks(call)
    return "", f"torch.cat([{', '.join(call.inputs)}], {_axis(call, call.config.get('axis', -1))})"


def _global(function: str) -> Callable[[Call], Written]:
    def written(call: Call) -> Written:
        if function == "mean" and call.kind == "GlobalAveragePooling1D" and call.mask:
            kept = ", keepdim=True" if call.flag("keepdims", False) else ""
            return "", f"blocks.mean_of_steps({call.x}, {call.mask}{kept})"
        axes = list(range(2, call.rank)) if call.rank > 3 else [1]
        kept = ", keepdim=True" if call.flag("keepdims", False) else ""
        return "", f"{call.x}.{function}({tuple(axes) if len(axes) > 1 else axes[0]}{kept})"

    return written


def _pooled(kind: str) -> Callable[[Call], Written]:
    """Pools; `same` is a block of ours, since TensorFlow pads unevenly and leaves padding out of averages."""

    def written(call: Call) -> Written:
        size = call.sizes("pool_size", 2)
        stride = call.sizes("strides", size) if call.config.get("strides") else size
        same = "blocks.Same" if call.config.get("padding", "valid") == "same" else "nn."
        return f"{same}{kind}Pool{call.rank - 2}d({short(size)}, {short(stride)})", over_channels(
            call, f"self.{call.name}"
        )

    return written


def _sides(call: Call, name: str) -> list[tuple[int, int]]:
    value: Any = call.config.get(name)
    axes = call.rank - 2
    given: list[Any] = [value] * axes if isinstance(value, int) else list(value or ())
    if axes == 1 and len(given) == 2:
        given = [given]
    pairs = [(one, one) if isinstance(one, int) else tuple(one) for one in given]
    if len(pairs) != axes or not all(len(pair) == 2 and all(isinstance(one, int) for one in pair) for pair in pairs):
        call.refuse(f"{name} {value!r}")
    return [(int(before), int(after)) for before, after in pairs]


def _padded(call: Call) -> Written:
    # `F.pad` begins with the last axis, which holds the features of a sequence.
    pads = [size for pair in reversed(_sides(call, "padding")) for size in pair]
    return "", f"F.pad({call.x}, {tuple(pads if call.rank > 3 else [0, 0, *pads])})"


def _cropped(call: Call) -> Written:
    cuts = [f"{before}:{size - after}" for (before, after), size in zip(
        _sides(call, "cropping"), call.shapes[0][1:-1], strict=True)]  # fmt: skip
    return "", f"{call.x}[{', '.join([':', ':', *cuts] if call.rank > 3 else [':', *cuts])}]"


def _enlarged(call: Call) -> Written:
    size, kind = call.sizes("size", 2), call.config.get("interpolation", "nearest")
    if call.rank == 3:
        return "", f"{call.x}.repeat_interleave({size[0]}, 1)"
    if kind not in ("nearest", "bilinear"):
        call.refuse("interpolation")
    more = ', mode="bilinear", align_corners=False' if kind == "bilinear" else ""
    return "", f"F.interpolate({call.x}, scale_factor={size}{more})"


def _reshaped(call: Call) -> Written:
    """The numbers are in the order of channels last, so both axes of the module are turned before and after it."""
    shape = ", ".join(str(size) for size in call.shape[1:])
    return "", first(f"{last(call.x, call.rank)}.reshape(-1, {shape})", len(call.shape))


def _permuted(call: Call) -> Written:
    dims = call.config.get("dims") or ()
    moved = f"{last(call.x, call.rank)}.permute(0, {', '.join(str(int(axis)) for axis in dims)})"
    return "", first(moved, len(call.shape))


def _softmax(call: Call) -> Written:
    if call.mask:
        call.refuse("of padded steps")
    return "", f"F.softmax({call.x}, {_axis(call, call.config.get('axis', -1))})"


def _dropout(kind: str) -> Callable[[Call], Written]:
    """`SpatialDropout` drops whole channels, which are on axis 1 for PyTorch; elements have no order."""

    def written(call: Call) -> Written:
        applied = over_channels(call, f"self.{call.name}") if kind != "Dropout" else f"self.{call.name}({call.x})"
        return f"nn.{kind}({decimal(call.number('rate', 0.5))})", applied

    return written


def per_channel(call: Call, value: Any) -> str:
    """The expression of a setting that is a number, or a list with one number for each channel."""
    if isinstance(value, (list, tuple)) and len(value) == call.width and call.rank > 1:
        values = ", ".join(decimal(float(one)) for one in value)
        more = f".reshape(-1{', 1' * (call.rank - 2)})" if call.rank > 3 else ""
        return f"torch.tensor([{values}], dtype=torch.result_type({call.x}, 1.0), device={call.x}.device){more}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        call.refuse(f"the numbers {value!r}")
    return decimal(value)


def _rescaled(call: Call) -> Written:
    scale, offset = (per_channel(call, call.config.get(name, value)) for name, value in (("scale", 1), ("offset", 0)))
    return "", f"{call.x} * {scale} + {offset}"


def _dot(call: Call) -> Written:
    """The sum over one axis of each of two vectors or sequences."""
    axes: Any = call.config.get("axes")
    pair = [axes, axes] if isinstance(axes, int) else axes
    if len(call.inputs) != 2 or max(map(len, call.shapes)) > 3 or not isinstance(pair, list) or len(pair) != 2:
        call.refuse("axes, or values of more than three axes")
    if call.flag("normalize", False):
        call.refuse("normalized")
    words = [["a", "b", "c"], ["a", "d", "e"]]  # `a` is the batch, `z` the axis that is summed
    for word, axis, shape in zip(words, pair, call.shapes, strict=True):
        word[axis % len(shape)] = "z"
    left, right = ("".join(word[: len(shape)]) for word, shape in zip(words, call.shapes, strict=True))
    kept = f"{left}{right[1:]}".replace("z", "")
    ends = ".unsqueeze(1)" if len(kept) == 1 else ""
    return "", f'torch.einsum("{left},{right}->{kept}", {call.inputs[0]}, {call.inputs[1]}){ends}'


FUNCTIONS: dict[str, Callable[[Call], Written]] = {
    **LOGIC,
    "Activation": lambda call: ("", activated(call, call.x, call.rank)),
    "ReLU": _relu, "LeakyReLU": _leaky, "Softmax": _softmax,
    "ELU": lambda call: ("", f"F.elu({call.x}, {decimal(call.number('alpha', 1))})"),
    "Add": _joined("+"), "Subtract": _joined("-"), "Multiply": _joined("*"), "Average": _averaged,
    "Maximum": _pairwise("maximum"), "Minimum": _pairwise("minimum"), "Concatenate": _concatenated,
    "Flatten": lambda call: ("", f"{last(call.x, call.rank)}.flatten(1)"), "Reshape": _reshaped, "Permute": _permuted,
    "RepeatVector": lambda call: ("", f"{call.x}.unsqueeze(1).repeat_interleave({call.shape[1]}, 1)"),
    **dict.fromkeys(SAME, lambda call: ("", call.x)),
    "ThresholdedReLU": _thresholded, "UnitNormalization": _unit_normalized, "Dot": _dot,
    "Rescaling": _rescaled, "Dropout": _dropout("Dropout"),
    **{f"SpatialDropout{axes}D": _dropout(f"Dropout{axes}d") for axes in (1, 2, 3)},
    **{f"MaxPooling{axes}D": _pooled("Max") for axes in (1, 2, 3)},
    **{f"AveragePooling{axes}D": _pooled("Avg") for axes in (1, 2, 3)},
    **{f"GlobalMaxPooling{axes}D": _global("amax") for axes in (1, 2, 3)},
    **{f"GlobalAveragePooling{axes}D": _global("mean") for axes in (1, 2, 3)},
    **{f"ZeroPadding{axes}D": _padded for axes in (1, 2, 3)},
    **{f"Cropping{axes}D": _cropped for axes in (1, 2, 3)},
    **{f"UpSampling{axes}D": _enlarged for axes in (1, 2, 3)},
}  # fmt: skip
