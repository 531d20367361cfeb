"""Draw initial weights: the distribution follows from the layer's fan and from the activation behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.core.activations import FUNCTIONS, is_activation
from frostline.remedies.batchnorm.insertion_points import CONVOLUTIONS, LAYERS, is_activating

if TYPE_CHECKING:
    from frostline.core.tracing import Step, Trace

SCHEMES = ("auto", "he", "glorot", "lecun", "orthogonal")
# 1 / sqrt(E[f(z)^2]) for a standard normal z, by quadrature: He's derivation for functions that are no rectifiers.
_GAINS = {"ELU": 1.2452, "CELU": 1.2452, "GELU": 1.5335, "SiLU": 1.6765, "Mish": 1.4868, "Hardswish": 1.7367}
_BOUNDED = ("Tanh", "Sigmoid", "Hardsigmoid", "Hardtanh", "Softsign", "Tanhshrink", "LogSigmoid")


@dataclass(frozen=True)
class Follower:
    """The activation behind a layer.

    Attributes:
        kind: Its class name, or "" if there is none.
        slope: Its slope for negative inputs, where it has one.
    """

    kind: str = ""
    slope: float = 0.0

    @property
    def scheme(self) -> str:
        """He for rectifiers and their relatives, LeCun for SELU, Glorot for bounded ones and for none."""
        if self.kind == "SELU":
            return "lecun"
        return "glorot" if not self.kind or self.kind in _BOUNDED else "he"

    @property
    def gain(self) -> float:
        """What keeps the variance of the signal across the activation."""
        if self.kind == "Tanh":
            return 5 / 3  # as torch.nn.init.calculate_gain has it
        if self.kind in _GAINS:
            return _GAINS[self.kind]
        return math.sqrt(2 / (1 + self.slope**2)) if self.scheme == "he" else 1.0


def follower_in_run(module: nn.Module, traced: Trace) -> Follower | None:
    """The activation that a layer's output meets first, or None if the layer is not called."""
    calls = traced.calls(module)
    if not calls:
        return None
    later = traced.after(calls[0], stop=lambda step: step.has_weights or is_activating(step))
    return next((_of_step(step) for step in later if is_activating(step)), Follower())


def follower_in_order(module: nn.Module, model: nn.Module) -> Follower:
    """The activation that is registered next, before another layer is."""
    is_past = False
    for part in model.modules():
        if is_past and isinstance(part, (*LAYERS, nn.RNNBase, nn.RNNCellBase)):
            break
        if is_past and is_activation(part):
            return _of_module(part)
        is_past = is_past or part is module
    return Follower()


def draw(module: nn.Module, scheme: str, follower: Follower, generator: torch.Generator) -> Tensor:
    """A new weight of a linear or convolution layer, float32 on the CPU."""
    chosen = follower.scheme if scheme == "auto" else scheme
    weight: Tensor = module.weight  # type: ignore[assignment]
    if chosen == "orthogonal":
        return orthogonal(tuple(weight.shape), follower.gain, generator)
    fan_in, fan_out = _fans(module, weight)
    he = follower.gain if follower.scheme == "he" else math.sqrt(2)
    deviation = {
        "he": he / math.sqrt(fan_in),
        "glorot": (follower.gain if follower.scheme == "glorot" else 1.0) * math.sqrt(2 / (fan_in + fan_out)),
        "lecun": 1 / math.sqrt(fan_in),
    }[chosen]
    return torch.randn(weight.shape, generator=generator) * deviation


def orthogonal(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    """Rows, or columns where there are fewer, that are orthonormal, times `gain`."""
    return nn.init.orthogonal_(torch.empty(shape), gain, generator=generator)


def draw_recurrent(name: str, parameter: Tensor, module: nn.Module, generator: torch.Generator) -> Tensor:
    """A new parameter of an RNN, LSTM or GRU: input weights by Glorot, recurrent ones orthogonal, each gate alone.

    Biases are 0; the forget gate of an LSTM has 1, in the first of its two biases.

    References:
        Saxe, McClelland, Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep linear neural
        networks; Jozefowicz, Zaremba, Sutskever (2015), An empirical exploration of recurrent network architectures,
        section 2.2 (forget bias).
    """
    hidden = int(module.hidden_size)  # type: ignore[arg-type]
    if name.startswith("bias"):
        made = torch.zeros(parameter.shape)
        if "bias_ih" in name and isinstance(module, (nn.LSTM, nn.LSTMCell)):
            made[hidden : 2 * hidden] = 1.0
        return made
    gates = [(hidden, parameter.shape[1])] * (parameter.shape[0] // hidden) if "_hr" not in name else [parameter.shape]
    if "weight_hh" in name:
        return torch.cat([orthogonal(tuple(gate), 1.0, generator) for gate in gates])
    return torch.cat([torch.randn(gate, generator=generator) * math.sqrt(2 / sum(gate)) for gate in gates])


def _fans(module: nn.Module, weight: Tensor) -> tuple[float, float]:
    """(inputs of one output, outputs of one input). torch.nn.init mistakes them for transposed convolutions."""
    field = weight[0][0].numel()
    if not isinstance(module, CONVOLUTIONS):
        return weight.shape[1], weight.shape[0]
    if module.transposed:
        stride = math.prod(int(step) for step in module.stride)
        return max(weight.shape[0] / module.groups * field / stride, 1.0), weight.shape[1] * field
    return weight.shape[1] * field, weight.shape[0] / module.groups * field


def _of_step(step: Step) -> Follower:
    if step.module is not None:
        return _of_module(step.module)
    kind = FUNCTIONS[step.name]
    return Follower(kind, 0.01 if kind == "LeakyReLU" else 0.0)


def _of_module(module: nn.Module) -> Follower:
    slope = getattr(module, "negative_slope", 0.0)
    if isinstance(module, nn.PReLU):
        slope = float(module.weight.detach().float().mean())
    return Follower(type(module).__name__, float(slope))
