"""Initialise layers anew: by the activation that follows, or by what the data make of them."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from frostline.core.activations import FUNCTIONS, is_activation
from frostline.core.arguments import as_count, as_name, as_number, as_seed, check_flag, check_model
from frostline.core.doors import public
from frostline.core.errors import DataError, nearest
from frostline.core.inputs import call_with_model
from frostline.core.records import Change
from frostline.core.restore import kept_buffers, kept_generators, kept_modes
from frostline.core.tracing import Trace, hooked, trace
from frostline.remedies.batchnorm.insertion_points import CONVOLUTIONS, LAYERS, is_activating
from frostline.remedies.batchnorm.population import Population, Replay
from frostline.remedies.surgery import Snapshot, chosen_modules, grouped, left_alone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.optim import Optimizer

    from frostline.core.tracing import Step, Trace

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@public("initialize")
def initialize(
    model: nn.Module,
    scheme: str = "auto",
    *,
    layers: Iterable[str] | str | None = None,
    batch: Any = None,
    optimizer: Optimizer | None = None,
    include_pretrained: bool = False,
    seed: int = 0,
) -> Change:
    """Draw new weights for linear, convolution and recurrent layers, and set their biases to 0.

    Trained and fresh weights cannot be told apart, so only named layers are drawn: name the layers, or pass
    `include_pretrained=True`. Norms and embeddings are left as they are. An LSTM's forget gates start with bias 1,
    recurrent weights are orthogonal.

    Args:
        model: The model, changed in place.
        scheme: `auto` goes by the activation that follows: He for rectifiers, LeCun for SELU, Glorot for bounded ones
            and for none. Or `he`, `glorot`, `lecun`, `orthogonal`. The gain goes by the activation, too.
        layers: Names or globs; a name stands for what is inside. Frozen layers are only drawn when named themselves.
        batch: One batch, to find the activations by running the model; None goes by the order of registration, which
            leaves out activations that are functions.
        optimizer: Forgets its state of the weights that were drawn.
        include_pretrained: With `layers=None`: all trainable layers, whatever they have learnt.
        seed: Of a generator of its own; the global ones are left alone.

    Returns:
        The layers that were drawn; the undo; what was left alone, and why.

    Raises:
        DataError: If the scheme is not known, or no layers are named.
        LayerNotFound: If a name or glob fits nothing.

    References:
        He et al. (2015), Delving deep into rectifiers, equation 14; Glorot, Bengio (2010), Understanding the
        difficulty of training deep feedforward neural networks, equation 12; Klambauer et al. (2017),
        Self-normalizing neural networks (LeCun initialisation for SELU).
    """
    check_model("initialize", model)
    seed = as_seed("initialize", "seed", seed)
    check_flag("initialize", "include_pretrained", include_pretrained)
    if as_name("initialize", "scheme", scheme) not in SCHEMES:
        raise DataError(
            what=f"There is no initialisation named {scheme!r}.", where="initialize(scheme=...)", received=repr(scheme),
            do=f"use {nearest(str(scheme), SCHEMES, count=5)}.",
        )  # fmt: skip
    if layers is None and not include_pretrained:
        raise DataError(
            what="No layers to initialise were named.", where="initialize(layers=...)",
            received="layers=None: this would wipe out what pretrained layers have learnt",
            do="name the layers, or pass include_pretrained=True for all that are trainable.",
        )  # fmt: skip
    chosen, notes = _chosen(model, layers, (*LAYERS, *_RECURRENT))
    snapshot, generator = Snapshot(model, optimizer), torch.Generator().manual_seed(seed)
    traced = _run(model, batch) if batch is not None else None
    done: list[str] = []
    for name, module in chosen.items():
        reason = _obstacle(model, module)
        if reason is not None:
            notes.append((name, reason))
            continue
        done.append(name)
        for key, parameter in module.named_parameters(recurse=False):
            if isinstance(module, _RECURRENT):
                value = draw_recurrent(key, parameter, module, generator)
            elif key == "bias":
                value = torch.zeros(parameter.shape)
            else:
                follower = follower_in_run(module, traced) if traced is not None else None
                value = draw(module, scheme, follower or follower_in_order(module, model), generator)
            _set(parameter, value, optimizer)
    return Change(tuple(done), snapshot.restore, grouped(notes))


@public("lsuv")
def lsuv(
    model: nn.Module,
    batch: Any,
    *,
    layers: Iterable[str] | str,
    tolerance: float = 0.1,
    max_iterations: int = 10,
    optimizer: Optimizer | None = None,
    seed: int = 0,
) -> Change:
    """Start layers orthonormal, then scale each, from below, until its output on a batch has variance 1.

    Measured in inference mode, over all values of the output; a layer that is called several times pools them.

    Args:
        model: The model, changed in place.
        batch: `(inputs, target)` or inputs; a few hundred samples make a good estimate.
        layers: Names or globs of linear and convolution layers; there is no default, since learnt weights are lost.
        tolerance: How far the variance may be from 1.
        max_iterations: Scalings of one layer; the paper's number.
        optimizer: Forgets its state of the weights that were drawn.
        seed: Of a generator of its own.

    Returns:
        The layers, in the order of execution; the undo; what was left alone, or did not get there.

    Raises:
        DataError: If outputs are not finite, or have fewer than two values.
        LayerNotFound: If a name or glob fits nothing.

    References:
        Mishkin, Matas (2016), All you need is a good init, algorithm 1.
    """
    check_model("lsuv", model)
    tolerance = as_number("lsuv", "tolerance", tolerance, above=0)
    max_iterations, seed = as_count("lsuv", "max_iterations", max_iterations), as_seed("lsuv", "seed", seed)
    chosen, notes = _chosen(model, layers, LAYERS)
    snapshot, generator = Snapshot(model, optimizer), torch.Generator().manual_seed(seed)
    order = {id(step.module): step.at for step in reversed(_run(model, batch).steps) if step.module is not None}
    done: list[str] = []
    try:
        for name, module in sorted(chosen.items(), key=lambda item: order.get(id(item[1]), -1)):
            reason = "not called when the model runs" if id(module) not in order else _obstacle(model, module)
            if reason is None:
                done.append(name)
                for key, parameter in module.named_parameters(recurse=False):
                    value = torch.zeros(parameter.shape) if key == "bias" else None
                    value = value if value is not None else orthogonal(tuple(parameter.shape), 1.0, generator)
                    _set(parameter, value, optimizer)
                reason = _scale(model, name, module, batch, tolerance, max_iterations)
            notes += [(name, reason)] if reason is not None else []
    except Exception:
        snapshot.restore()
        raise
    return Change(tuple(done), snapshot.restore, grouped(notes))


def _scale(
    model: nn.Module, name: str, module: nn.Module, batch: Any, tolerance: float, max_iterations: int
) -> str | None:
    weight: Tensor = module.weight  # type: ignore[assignment]
    variance = _variance(model, name, module, batch)
    for _ in range(max_iterations):
        if abs(variance - 1) <= tolerance:
            return None
        if variance < 1e-30:
            return "its output does not vary; left orthonormal"
        with torch.no_grad():
            weight.div_(variance**0.5)
        variance = _variance(model, name, module, batch)
    return None if abs(variance - 1) <= tolerance else f"variance {variance:.3g} after {max_iterations} iterations"


def _variance(model: nn.Module, name: str, module: nn.Module, batch: Any) -> float:
    population = Population()

    def hear(_module: nn.Module, _args: Any, output: Tensor) -> None:
        population.add(output.reshape(-1, 1), 1)

    with hooked(module, hear):
        _quietly(model, batch)
    population.check(name)
    return float(population.variance)


def _quietly(model: nn.Module, batch: Any) -> None:
    with ExitStack() as stack:
        for context in (kept_generators(), kept_modes(model), kept_buffers(model), torch.no_grad()):
            stack.enter_context(context)
        model.eval()
        call_with_model(model, Replay(model, [batch]).first())


def _run(model: nn.Module, batch: Any) -> Trace:
    with kept_modes(model):
        model.eval()
        return trace(model, Replay(model, [batch]).first())


# Trained and fresh weights cannot be told apart by their distribution: an initialisation that is wrong, which is the
# case that matters, looks like neither. So layers are named.
def _chosen(
    model: nn.Module, layers: Iterable[str] | str | None, kinds: tuple[type[nn.Module], ...]
) -> tuple[dict[str, nn.Module], list[tuple[str, str]]]:
    inside, named = chosen_modules(model, layers)
    found = {name: module for name, module in inside.items() if isinstance(module, kinds)}
    frozen = left_alone(model, found, named)
    notes = [(name, "frozen, left alone; name it in layers= to initialise it") for name in frozen]
    notes += [
        (name, f"a {type(module).__name__} is not initialised")
        for name, module in inside.items()
        if id(module) in named and not any(isinstance(part, kinds) for part in module.modules())
    ]
    return {name: module for name, module in found.items() if name not in frozen}, notes


def _obstacle(model: nn.Module, module: nn.Module) -> str | None:
    if is_parametrized(module) or (isinstance(module, LAYERS) and "weight" not in module._parameters):
        return "its weight is computed from other parameters"
    own = list(module.parameters(recurse=False))
    if any(parameter.is_complex() for parameter in own):
        return "has complex weights"
    for other_name, other in model.named_modules():
        is_treated = isinstance(other, (*LAYERS, *_RECURRENT))
        if not is_treated and any(theirs is mine for theirs in other._parameters.values() for mine in own):
            return f"shares a parameter with {other_name or 'the model'} ({type(other).__name__})"
    return None


def _set(parameter: Tensor, value: Tensor, optimizer: Optimizer | None) -> None:
    with torch.no_grad():
        parameter.copy_(value)
    if optimizer is not None:
        optimizer.state.pop(parameter, None)


SCHEMES = ("auto", "he", "glorot", "lecun", "orthogonal")
# 1 / sqrt(E[f(z)^2]) for a standard normal z, by quadrature: He's derivation for functions that are no rectifiers.
_GAINS = {"ELU": 1.2452, "CELU": 1.2452, "GELU": 1.5335, "SiLU": 1.6765, "Mish": 1.4868, "Hardswish": 1.7367}
_BOUNDED = ("Tanh", "Sigmoid", "Hardsigmoid", "Hardtanh", "Softsign", "Tanhshrink", "LogSigmoid")


# The gain is 1 / sqrt(E[f(z)^2]) for standard normal z: with He's factor of 2, ten layers of ELU diverged.
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
