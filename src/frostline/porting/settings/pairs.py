"""Comparison of the settings of one layer of the file with those of its layer of the module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frostline.porting.settings import padding
from frostline.porting.settings.setting import AGREES, DIFFERS, Setting, described, fixed, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.porting.plan.step import Step
    from frostline.porting.readers.contract import SourceLayer

EPSILON = {"BatchNormalization": 1e-3, "LayerNormalization": 1e-3, "GroupNormalization": 1e-3, "RMSNormalization": 1e-6}
# Activations of Keras, and the modules that compute them.
ACTIVATIONS: dict[str, nn.Module] = {
    "relu": nn.ReLU(), "relu6": nn.ReLU6(), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid(), "gelu": nn.GELU(),
    "elu": nn.ELU(), "selu": nn.SELU(), "swish": nn.SiLU(), "silu": nn.SiLU(), "softmax": nn.Softmax(-1),
    "softplus": nn.Softplus(), "softsign": nn.Softsign(), "mish": nn.Mish(), "leaky_relu": nn.LeakyReLU(0.2),
    "hard_silu": nn.Hardswish(), "log_softmax": nn.LogSoftmax(-1),
}  # fmt: skip


def of_pair(
    step: Step, before: SourceLayer | None, size: Sequence[int] | None, follower: nn.Module | None
) -> Iterator[Setting]:
    """Compare every setting of one layer.

    Args:
        step: The layer of the file and that of the module.
        before: The layer of the file before it.
        size: Sizes of its input between batch and channels, if they are known.
        follower: The next entry of the `Sequential` that contains the layer; None if none does.
    """
    layer, module, name = step.source.layer, step.target.module, step.target.name
    if layer is None:
        return
    config = layer.config
    if layer.kind in EPSILON and hasattr(module, "eps"):
        yield number(name, "epsilon", module, "eps", float(config.get("epsilon", EPSILON[layer.kind])),
                     is_seen=True)  # fmt: skip
    if layer.kind == "BatchNormalization" and hasattr(module, "momentum"):
        yield number(name, "momentum", module, "momentum", 1 - float(config.get("momentum", 0.99)))
    is_depthwise = step.source.name.endswith("/depthwise")
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        yield from _convolution(name, module, config)
        yield padding.transposed(name, module, layer)
    elif isinstance(module, nn.modules.conv._ConvNd) and not step.source.name.endswith("/pointwise"):
        yield from _convolution(name, module, config)
        yield padding.convolution(name, module, layer, before, size)
    if isinstance(module, (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)):
        yield from _recurrent(name, module, _of_direction(layer, step.source.name))
    elif follower is not None and not is_depthwise and isinstance(config.get("activation"), str):
        yield from _activation(name, config["activation"], follower)
    if isinstance(module, nn.MultiheadAttention):
        yield number(name, "dropout", module, "dropout", float(config.get("dropout", 0.0)))


def _convolution(name: str, module: nn.modules.conv._ConvNd, config: Any) -> Iterator[Setting]:
    axes = len(module.kernel_size)
    for setting, attribute, default in (("strides", "stride", 1), ("dilation_rate", "dilation", 1)):
        stated = config.get(setting, default)
        yield fixed(name, attribute, tuple(getattr(module, attribute)),
                    (stated,) * axes if isinstance(stated, int) else tuple(stated))  # fmt: skip


def _of_direction(layer: SourceLayer, unit: str) -> Any:
    """The settings of a recurrent layer; those inside a `Bidirectional`, if it is in one."""
    inner = layer.config.get("layer")
    if isinstance(inner, dict) and isinstance(inner.get("config"), dict) and layer.kind == "Bidirectional":
        other = layer.config.get("backward_layer")
        if unit.endswith("/backward") and isinstance(other, dict) and isinstance(other.get("config"), dict):
            return {**other["config"], "go_backwards": False}
        return inner["config"]
    return layer.config


def _recurrent(name: str, module: nn.Module, config: Any) -> Iterator[Setting]:
    wanted = getattr(module, "nonlinearity", "tanh")
    remedy = "the modules of PyTorch cannot represent it: write a custom cell"
    yield fixed(name, "activation", wanted, config.get("activation", "tanh"), remedy)
    if not isinstance(module, (nn.RNN, nn.RNNCell)):
        yield fixed(name, "recurrent activation", "sigmoid", config.get("recurrent_activation", "sigmoid"), remedy)
    if config.get("go_backwards"):
        yield described(
            name, "direction", "unknown", "the layer of the file runs from the last step to the first: flip its input"
        )


def _activation(name: str, stated: str, follower: nn.Module) -> Iterator[Setting]:
    known = tuple(type(one) for one in ACTIVATIONS.values())
    if stated not in ACTIVATIONS or not isinstance(follower, known):
        return
    probe = torch.linspace(-4, 4, 33).reshape(3, 11)
    with torch.no_grad():
        is_same = torch.allclose(follower(probe.clone()), ACTIVATIONS[stated](probe), atol=1e-6)
    text = f"{follower} in the module, {stated!r} in the file"
    yield described(name, "activation", AGREES if is_same else DIFFERS, text)
