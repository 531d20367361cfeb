"""Gradients, weights and updates of one step, by layer; tensors stay on the device. Legend: P parameters, L layers."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core.norms import GradientNorms, gradient_norms
from frostline.health.statistics import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.health.layers import Found

# Norms of weights and updates are taken of so many values of a parameter, evenly spread over rows and columns; smaller
# parameters are measured whole. For values of kurtosis k the error of a norm is sqrt((k - 1) / (4 n)): 1.6% of normal
# ones. Rules compare updates with limits that are factors of 1.6 and more apart, over the median of many samples.
_MAX_VALUES = 2**9


class Weights:
    """The trainable parameters by layer, and views of some of their values, made once.

    Args:
        found: The layers.
    """

    def __init__(self, found: Sequence[Found]) -> None:
        owned = [entry for entry in found if entry.parameters]
        self.layers = tuple(entry.layer.name for entry in owned)
        self.parameters = [parameter for entry in owned for parameter in entry.parameters]
        self._place = {id(p): at for at, entry in enumerate(owned) for p in entry.parameters}
        self._owner: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}
        self._groups: tuple[_Values, ...] = ()

    def views(self) -> tuple[_Values, ...]:
        """Views of some values of the parameters, for each dtype and device; the same until parameters move."""
        if not self._groups or not all(group.is_current for group in self._groups):
            kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
            for parameter in self.parameters:
                kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
            self._groups = tuple(_Values(own) for own in kinds.values())
        return self._groups

    def norms(self, views: tuple[_Values, ...], copies: list[list[Tensor]]) -> Tensor:
        """(len(copies), L) norms of the layers, each from a copy of the views; float64."""
        parameters = [parameter for view in views for parameter in view.parameters]
        device = copies[0][0].device
        squares = [view.squares(own).to(device) for view, *own in zip(views, *copies, strict=True)]
        return self.by_layer(parameters, torch.cat(squares, dim=1)).sqrt_()

    def by_layer(self, parameters: Sequence[Tensor], numbers_FP: Tensor) -> Tensor:
        """(F, L) the sums over the parameters of each layer."""
        key = (tuple(self._place[id(parameter)] for parameter in parameters), numbers_FP.device)
        if key not in self._owner:
            self._owner = {} if len(self._owner) > 8 else self._owner  # a loop may train parts in turn
            self._owner[key] = torch.tensor(key[0], dtype=torch.long, device=key[1])
        sums_FL = torch.zeros(len(numbers_FP), len(self.layers), dtype=torch.float64, device=numbers_FP.device)
        return sums_FL.index_add_(1, self._owner[key], numbers_FP)

    def owners(self, parameters: Sequence[Tensor]) -> list[int]:
        """The places of the layers that have any of these."""
        return sorted({self._place[id(parameter)] for parameter in parameters})


class _Values:
    """Views of parameters of one dtype and device."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self._addresses = [parameter.data_ptr() for parameter in parameters]
        real = [torch.view_as_real(p.detach()) if p.is_complex() else p.detach() for p in parameters]
        self._views = [_thinned(weight) for weight in real]
        sizes, device = [view.numel() for view in self._views], parameters[0].device
        self._sizes_P = torch.tensor(sizes, device=device)
        scale = [weight.numel() / max(1, size) for weight, size in zip(real, sizes, strict=True)]
        self._scale_P = torch.tensor(scale, dtype=torch.float64, device=device)

    @property
    def is_current(self) -> bool:
        """False once parameters got other memory: the views would show the old one."""
        return self._addresses == [parameter.data_ptr() for parameter in self.parameters]

    def copied(self) -> Tensor:
        return torch.cat([view if view.dim() == 1 else view.reshape(-1) for view in self._views])

    def squares(self, values: list[Tensor]) -> Tensor:
        """(len(values), P) squared norms."""
        wide = torch.stack(values).to(torch.promote_types(values[0].dtype, torch.float32)).square_()
        lengths = self._sizes_P.repeat(len(values), 1)
        return torch.segment_reduce(wide, "sum", lengths=lengths, axis=1, unsafe=True).double().mul_(self._scale_P)


def _thinned(weight: Tensor) -> Tensor:
    """A view of at most 512 values, each step-th in memory; the step shares no divisor with any axis."""
    step = -(-weight.numel() // _MAX_VALUES)
    order = sorted(range(weight.dim()), key=weight.stride, reverse=True)  # channels may come last in memory
    dense = weight.permute(order)
    if step <= 1 or not dense.is_contiguous():
        return weight
    while math.gcd(step, weight.numel()) > 1:
        step += 1
    return dense.view(-1)[::step]


class Step:
    """What one optimizer step saw and did, as copies.

    Args:
        weights: The parameters that are watched.
    """

    def __init__(self, weights: Weights) -> None:
        self._own = weights
        self.views = weights.views()
        self.values: list[Tensor] = []  # of the weights, before the step
        self.values_after: list[Tensor] = []
        self.gradients: GradientNorms | None = None

    def before(self, *, scale: Tensor | None = None) -> None:
        """Read gradients and weights, before the optimizer moves them.

        Args:
            scale: What the gradients are multiplied by (AMP), where the optimizer itself takes it off.
        """
        with torch.no_grad():
            self._read_gradients(scale)
            self.values = [view.copied() for view in self.views]

    def after(self) -> None:
        """Read the weights again; gradients of a closure exist only now."""
        with torch.no_grad():
            if self.gradients is None:
                self._read_gradients(None)
            if self.views is self._own.views():
                self.values_after = [view.copied() for view in self.views]

    def _read_gradients(self, scale: Tensor | None) -> None:
        given = [parameter.grad for parameter in self._own.parameters]
        measured = gradient_norms(self._own.parameters)
        for parameter, gradient in zip(self._own.parameters, given, strict=True):
            # sparse ones were coalesced: that may round another way in the optimizer
            if gradient is not None and gradient.is_sparse:
                parameter.grad = gradient
        if scale is not None:
            measured = GradientNorms(measured.total / scale, measured.norms / scale, measured.parameters)
        self.gradients = measured if measured.parameters else None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Steps of one kind can be measured together."""
        parameters = self.gradients.parameters if self.gradients is not None else ()
        return self.views, bool(self.values_after), tuple(map(id, parameters))


def tables_of(steps: Sequence[Step], weights: Weights) -> list[Table]:
    """weight_norm of all layers; gradient_norm and update_ratio of those with a gradient; the total belongs to "".

    Args:
        steps: Their places are the owners'.
        weights: What they looked at.
    """
    tables: list[Table] = []
    if not weights.layers:
        return tables
    with torch.no_grad():
        for _, run in groupby(enumerate(steps), key=lambda entry: entry[1].kind):
            places, own = zip(*run, strict=True)
            tables += _tables_of_a_kind(places, own, weights)
    return tables


def _tables_of_a_kind(places: Sequence[int], steps: Sequence[Step], weights: Weights) -> list[Table]:
    """All in one go. Legend: K steps."""
    first, count = steps[0], len(steps)
    copies = [step.values for step in steps]
    if first.values_after:
        copies += [[b - a for a, b in zip(step.values, step.values_after, strict=True)] for step in steps]
    norms = weights.norms(first.views, copies)
    weights_KL = norms[:count]
    tables = [_table(places, weights.layers, {"weight_norm": weights_KL})]
    measured = [step.gradients for step in steps if step.gradients is not None]
    if not measured:
        return tables
    norms_KP = torch.stack([own.norms for own in measured]).double()
    fields = {"gradient_norm": weights.by_layer(measured[0].parameters, norms_KP.square_()).sqrt_()}
    if first.values_after:
        fields["update_ratio"] = norms[count:] / weights_KL.clamp_min(1e-12)
    chosen = weights.owners(measured[0].parameters)
    names = tuple(weights.layers[at] for at in chosen)
    if len(chosen) < len(weights.layers):
        fields = {field: values_KL[:, chosen] for field, values_KL in fields.items()}
    totals_K1 = torch.stack([own.total for own in measured])[:, None]
    return [*tables, _table(places, names, fields), _table(places, ("",), {"gradient_norm": totals_K1})]


def _table(places: Sequence[int], layers: Sequence[str], fields: dict[str, Tensor]) -> Table:
    values_FL = torch.stack([values_KL.reshape(-1) for values_KL in fields.values()])
    return Table(tuple((place, layer) for place in places for layer in layers), tuple(fields), values_FL)
