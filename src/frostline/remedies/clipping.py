"""Gradient clipping: by value, by norm, adaptive, and with a threshold taken from the norms that were measured.

Every `clip_by_...` returns a `Clip`. Call it with the parameters after backward and before `optimizer.step()`: once
per step, after the last of accumulated backwards, and after `scaler.unscale_(optimizer)` if a GradScaler is used.

Legend: P parameters with a gradient, U units (rows) of a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core.arguments import as_count, as_number
from frostline.core.errors import FOREIGN, DataError
from frostline.core.norms import GradientNorms, entries, gradient_norms

_NARROW = (torch.float16, torch.bfloat16)


# Gradients that are not finite are set to None, not to zero: with zeros, momentum and weight decay would still move
# the parameters.
@dataclass(frozen=True)
class Clipped:
    """What one clip found, before it changed anything.

    Attributes:
        norm: 0-d tensor: the norm of all gradients together.
        norms: (P,) tensor: the norm of each gradient.
        parameters: The P parameters that had a gradient, aligned with `norms`.
        skipped: True if a gradient was not finite: all are None now, and this step is to be left out.
    """

    norm: Tensor
    norms: Tensor
    parameters: tuple[Tensor, ...]
    skipped: bool

    def __float__(self) -> float:
        return float(self.norm)


class Rule(Protocol):
    """How finite gradients are limited. The memory of a rule is its state, which JSON can hold."""

    def limit(self, measured: GradientNorms, norm: float) -> None:
        """Change the gradients in place; `norm` is `measured.total` as a number."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember this instead."""
        ...


@final
class Clip:
    """Limits gradients when called with parameters, and leaves out steps whose gradients are not finite.

    Then every `.grad` is set to None, with which no optimizer changes a parameter, its momentum or its decay; the
    result is `skipped`, and `frostline.fit` does not call the optimizer at all.

    Attributes:
        num_calls: Steps seen.
        num_skipped: Steps left out.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.num_calls = 0
        self.num_skipped = 0

    def __call__(self, parameters: Iterable[Tensor] | Tensor) -> Clipped:
        """Limit the gradients in place.

        Args:
            parameters: All parameters that the step moves: `model.parameters()`, a list, or one.

        Raises:
            DataError: If these are no parameters, such as a module, named parameters or the groups of an optimizer.
        """
        given = _tensors_of(parameters)
        measured = gradient_norms(given)
        norm = float(measured.total)
        if not math.isfinite(norm) and measured.total.device.type != "mps":
            # Finite gradients above 1e19 have no square in float32; float64 is not to be had on MPS.
            measured = gradient_norms(given, dtype=torch.float64)
            norm = float(measured.total)
        is_finite = math.isfinite(norm)
        self.num_calls += 1
        if is_finite:
            self._rule.limit(measured, norm)
        else:
            self.num_skipped += 1
            for parameter in measured.parameters:
                parameter.grad = None
        return Clipped(measured.total, measured.norms, measured.parameters, not is_finite)

    def __repr__(self) -> str:
        return f"Clip({self._rule!r})"

    def state_dict(self) -> dict[str, Any]:
        """Counts, and what the rule remembers, as JSON can hold it."""
        return {"num_calls": self.num_calls, "num_skipped": self.num_skipped, "rule": self._rule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict()`."""
        before = self._rule.state_dict()
        try:
            num_calls, num_skipped = int(state["num_calls"]), int(state["num_skipped"])
            self._rule.load_state_dict(state["rule"])
        except FOREIGN as error:
            self._rule.load_state_dict(before)
            raise DataError(
                what="This is not the state of a clip of this kind.", where="Clip.load_state_dict(state)",
                received=f"{type(error).__name__}: {error}", do="pass what state_dict() of the same kind of clip gave.",
            ) from error  # fmt: skip
        self.num_calls, self.num_skipped = num_calls, num_skipped


def clip_by_value(limit: float) -> Clip:
    """Cut every gradient component to [-limit, limit]. This changes the direction of the step.

    Args:
        limit: Largest component, in units of the loss per unit of the parameter. A complex gradient is cut in its
            real and its imaginary part.
    """
    return Clip(_ByValue(as_number("clip_by_value", "limit", limit, above=0)))


def clip_by_norm(max_norm: float) -> Clip:
    """Scale all gradients together so that their norm never exceeds `max_norm`. The direction stays.

    References:
        Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks, section 3.2.
    """
    return Clip(_ByNorm(as_number("clip_by_norm", "max_norm", max_norm, above=0)))


def clip_adaptive(clip_factor: float = 0.01, eps: float = 1e-3) -> Clip:
    """Scale each unit's gradient so that its norm stays below `clip_factor` times the norm of the unit's weights.

    A unit is a row of a matrix, a filter of a convolution, or a whole vector. The paper leaves the output layer out:
    call the result with the other parameters only.

    Args:
        clip_factor: The paper's lambda; smaller for larger batches.
        eps: Weights smaller than this count as this large, so that zero weights can move.

    References:
        Brock, De, Smith, Simonyan (2021), High-performance large-scale image recognition without normalization,
        section 4.
    """
    call = "clip_adaptive"
    return Clip(_Adaptive(as_number(call, "clip_factor", clip_factor, above=0), as_number(call, "eps", eps, above=0)))


def clip_by_percentile(percentile: float = 10.0, window: int = 1000, warmup: int = 20) -> Clip:
    """Scale all gradients together to a percentile of the norms measured so far, this one included.

    Args:
        percentile: 10 clips nine steps of ten, the paper's choice; 90 only takes off the peaks.
        window: Norms that are remembered, the latest ones. Chosen by us, not measured; the paper keeps them all.
        warmup: Steps that are only measured. Chosen by us, not measured.

    References:
        Seetharaman, Wichern, Pardo, Le Roux (2020), AutoClip: adaptive gradient clipping for source separation
        networks.
    """
    call = "clip_by_percentile"
    percentile = as_number(call, "percentile", percentile, above=0, most=100)
    window, warmup = as_count(call, "window", window), as_count(call, "warmup", warmup, least=0)
    return Clip(_ByPercentile(percentile, window, warmup))


def clip_by_zscore(z: float = 2.5, alpha: float = 0.97, warmup: int = 25, max_norm: float | None = None) -> Clip:
    """Scale down spikes only: norms that lie more than `z` standard deviations above their running mean.

    A spike at z' deviations is scaled to the mean plus z^2/z' of them, so that a larger spike is cut further.

    Args:
        z: Deviations that count as a spike.
        alpha: Share of the past in the running mean and variance.
        warmup: Steps that are only measured.
        max_norm: A norm that is never exceeded, in the warm-up either.

    References:
        Kumar, Owen, Chowdhury, Güra (2025), ZClip: adaptive spike mitigation for LLM pre-training, section 3.
    """
    call = "clip_by_zscore"
    z, alpha = as_number(call, "z", z, above=0), as_number(call, "alpha", alpha, above=0, below=1)
    warmup = as_count(call, "warmup", warmup, least=2)  # a deviation needs two norms
    most = as_number(call, "max_norm", max_norm, above=0) if max_norm is not None else None
    return Clip(_ByZscore(z, alpha, warmup, most))


@dataclass(frozen=True)
class _ByValue:
    most: float

    def limit(self, measured: GradientNorms, norm: float) -> None:
        del norm
        for parameter in measured.parameters:
            entries(parameter).clamp_(-self.most, self.most)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


@dataclass(frozen=True)
class _ByNorm:
    max_norm: float

    def limit(self, measured: GradientNorms, norm: float) -> None:
        _scale_to(measured, norm, self.max_norm)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


@dataclass(frozen=True)
class _Adaptive:
    clip_factor: float
    eps: float

    def limit(self, measured: GradientNorms, norm: float) -> None:
        del norm
        for parameter in measured.parameters:
            gradient, weight = entries(parameter), parameter.detach()
            if weight.is_sparse:
                weight = weight.to_dense()
            if parameter.grad is not None and parameter.grad.is_sparse:
                weight = weight[tuple(parameter.grad._indices())]
            weight = torch.view_as_real(weight) if weight.is_complex() else weight
            most_U = _unit_norms(weight, parameter).clamp(min=self.eps) * self.clip_factor
            norm_U = _unit_norms(gradient, parameter)
            factor_U = (most_U / norm_U.clamp(min=1e-6)).clamp(max=1.0)
            gradient.mul_(torch.where(norm_U > most_U, factor_U, torch.ones_like(factor_U)).to(gradient.dtype))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


# A threshold from the first steps is far too high once the network has learnt, and one outlier row moves the weights
# then; the window follows the usual norm.
@dataclass
class _ByPercentile:
    percentile: float
    window: int
    warmup: int

    def __post_init__(self) -> None:
        self._norms: list[float] = []
        self._seen = 0

    def limit(self, measured: GradientNorms, norm: float) -> None:
        self._norms = [*self._norms[-self.window + 1 :], norm] if self.window > 1 else [norm]
        self._seen += 1
        if self._seen > self.warmup:
            _scale_to(measured, norm, float(np.percentile(self._norms, self.percentile)))

    def state_dict(self) -> dict[str, Any]:
        return {"norms": self._norms, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._norms, self._seen = list(state["norms"]), state["seen"]


@dataclass
class _ByZscore:
    z: float
    alpha: float
    warmup: int
    max_norm: float | None

    def __post_init__(self) -> None:
        self._first: list[float] = []
        self._mean = self._variance = 0.0

    def limit(self, measured: GradientNorms, norm: float) -> None:
        most = math.inf if self.max_norm is None else self.max_norm
        if len(self._first) < self.warmup:
            self._first.append(min(norm, most))
            self._mean, self._variance = float(np.mean(self._first)), float(np.var(self._first))
        else:
            deviation = math.sqrt(self._variance)
            above = (norm - self._mean) / (deviation + 1e-6)
            if above > self.z:
                most = min(most, self._mean + deviation * self.z**2 / above)
            kept = min(norm, most)
            self._mean = self.alpha * self._mean + (1 - self.alpha) * kept
            self._variance = self.alpha * self._variance + (1 - self.alpha) * (kept - self._mean) ** 2
        _scale_to(measured, norm, most)

    def state_dict(self) -> dict[str, Any]:
        return {"first": self._first, "mean": self._mean, "variance": self._variance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._first, self._mean, self._variance = list(state["first"]), state["mean"], state["variance"]


def _scale_to(measured: GradientNorms, norm: float, most: float) -> None:
    if not norm > most:
        return
    gradients = [entries(parameter) for parameter in measured.parameters]
    # The 1e-6 is torch's own: it keeps the result below the limit in spite of rounding. In half precision it does not:
    # every product may be rounded up by half of its last digit.
    room = max((torch.finfo(g.dtype).eps for g in gradients if g.dtype in _NARROW), default=0.0) / 2
    factor = most / (norm + 1e-6) / (1 + room)
    torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateImportUsage]


def _tensors_of(given: Any) -> list[Tensor]:
    """The parameters as a list."""
    if isinstance(given, Tensor):
        return [given]
    is_holder = isinstance(given, (nn.Module, str, Mapping)) or not isinstance(given, Iterable)
    found: list[Any] = [given] if is_holder else list(cast("Iterable[Any]", given))
    others = [entry for entry in found if not isinstance(entry, Tensor)]
    odd = others[0] if others else None
    if not others and not is_holder:
        if any(parameter.is_meta for parameter in found):
            raise DataError(
                what="A clip needs gradients with values.", where="clip(parameters)", received="meta tensors",
                do="give the model memory with model.to_empty(device='cpu'), and load its weights.",
            )  # fmt: skip
        return found
    received, remedy = type(odd).__name__, "clip(model.parameters())"
    if isinstance(odd, nn.Module):
        received = f"{received}, a module"
    elif isinstance(odd, tuple):
        received = "pairs, such as model.named_parameters() gives"
    elif isinstance(odd, Mapping) and "params" in odd:
        received = "groups of an optimizer"
        remedy = 'clip([p for group in optimizer.param_groups for p in group["params"]])'
    raise DataError(what="A clip takes parameters.", where="clip(parameters)", received=received, do=f"call {remedy}.")


def _unit_norms(value: Tensor, parameter: Tensor) -> Tensor:
    """(U, 1, ...): the norm over all axes but the first, in float32 or wider; of a vector, over all of it."""
    wide = value.float() if value.dtype in _NARROW else value
    axes = tuple(range(1, wide.dim())) if parameter.dim() > 1 else tuple(range(wide.dim()))
    return torch.linalg.vector_norm(wide, dim=axes, keepdim=True) if axes else wide.abs()
