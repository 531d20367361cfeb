"""Activations as Keras defines them, by name and as layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frostline.porting.interpreter.layer import Layer
from frostline.porting.interpreter.masks import check_unmasked

if TYPE_CHECKING:
    from collections.abc import Callable

NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,  # the exact function: in Keras the approximation has to be requested
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": F.logsigmoid,
    "hard_silu": F.hardswish,
    "hard_swish": F.hardswish,
    "hard_tanh": F.hardtanh,
    "tanh_shrink": F.tanhshrink,
    "soft_shrink": F.softshrink,
    "hard_shrink": F.hardshrink,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "softsign": F.softsign,
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "exponential": torch.exp,
    "squareplus": lambda x: (x + torch.sqrt(x * x + 4)) / 2,
}


def activated(layer: Layer, value: Tensor, setting: str = "activation") -> Tensor:
    """The value after the activation that a setting of the layer states."""
    given = layer.setting(setting)
    if isinstance(given, dict):
        config = given.get("config")
        if given.get("class_name") in LAYERS and isinstance(config, dict):
            own = Layer(layer.name, str(given["class_name"]), config, (value,), {}, layer.version)
            return LAYERS[own.kind](own)
        if given.get("class_name") != "function" or given.get("module") not in (None, "builtins", "keras.activations"):
            layer.refuse(f"{setting} {given.get('class_name')!r}")
        given = config
    if given is None:
        return value
    if given == "hard_sigmoid":
        return _hard_sigmoid(layer, value)
    if not isinstance(given, str) or given not in NAMED:
        layer.refuse(f"{setting} {given!r}")
    return NAMED[given](value)


def without_activation(layer: Layer) -> Layer | None:
    """The layer without its last activation; None if it has none or a linear one."""
    if layer.kind in _LAST or layer.setting("activation") in (None, "linear"):
        return None
    return replace(layer, config={**layer.config, "activation": None})


# Layers whose `activation` acts inside of them.
_LAST = ("LSTM", "GRU", "SimpleRNN", "Bidirectional", "TimeDistributed")


def _hard_sigmoid(layer: Layer, value: Tensor) -> Tensor:
    """The hard sigmoid, which is another function since Keras 3."""
    if layer.version == 0:
        layer.refuse("hard_sigmoid of an unknown version of Keras")
    return F.hardsigmoid(value) if layer.version >= 3 else (0.2 * value + 0.5).clamp(0, 1)


def _relu(layer: Layer) -> Tensor:
    x, threshold = layer.input(), _number(layer, "threshold", 0.0)
    below = _number(layer, "negative_slope", 0.0) * (x - threshold)
    largest = layer.setting("max_value")
    made = torch.where(x >= threshold, x, below)
    return made if largest is None else torch.where(x >= largest, torch.full_like(x, float(largest)), made)


def _leaky(layer: Layer) -> Tensor:
    slope = layer.setting("negative_slope", layer.setting("alpha", 0.3))
    return F.leaky_relu(layer.input(), _number(layer, "", slope))


def _elu(layer: Layer) -> Tensor:
    x, alpha = layer.input(), _number(layer, "alpha", 1.0)
    return torch.where(x > 0, x, alpha * torch.expm1(x))


def _prelu(layer: Layer) -> Tensor:
    x = layer.input()
    return F.relu(x) - layer.weight("alpha") * F.relu(-x)


def _softmax(layer: Layer) -> Tensor:
    check_unmasked(layer)
    axis = layer.setting("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if len(axes) != 1 or not isinstance(axes[0], int):
        layer.refuse(f"axis {axis!r}")
    return torch.softmax(layer.input(), axes[0])


def _thresholded(layer: Layer) -> Tensor:
    x = layer.input()
    return x * (x > _number(layer, "theta", 1.0))


def _number(layer: Layer, name: str, default: Any) -> float:
    value = layer.setting(name, default)
    value = default if value is None else value
    if not isinstance(value, (int, float)):
        layer.refuse(f"{name or 'slope'} {value!r}")
    return float(value)


LAYERS: dict[str, Callable[[Layer], Tensor]] = {
    "Activation": lambda layer: activated(layer, layer.input()),
    "ReLU": _relu,
    "LeakyReLU": _leaky,
    "ELU": _elu,
    "PReLU": _prelu,
    "Softmax": _softmax,
    "ThresholdedReLU": _thresholded,
}
