"""Gradients, weights and updates of one step, by layer; tensors stay on the device. Legend: P parameters, L layers."""

from __future__ import annotations

import math
from itertools import groupby, product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core.norms import separate_norms
from frostline.diagnosis.monitor.statistics import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.monitor.layers import Found

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

    def norms(self, views: tuple[_Values, ...], copies: Sequence[Tensor]) -> Tensor:
        """(C, L) norms of the layers, from (C, S) copies of the views; float64."""
        parameters = [parameter for view in views for parameter in view.parameters]
        squares = [view.squares(own_CS).to(copies[0].device) for view, own_CS in zip(views, copies, strict=True)]
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
    """Views of parameters of one dtype and device, those of the same size side by side. Legend: C copies, S values."""

    def __init__(self, parameters: list[Tensor]) -> None:
        views = {id(p): _thinned(torch.view_as_real(p.detach()) if p.is_complex() else p.detach()) for p in parameters}
        self.parameters = sorted(parameters, key=lambda p: views[id(p)].numel())
        self._addresses = [parameter.data_ptr() for parameter in self.parameters]
        self._views = [views[id(parameter)] for parameter in self.parameters]
        self._scale_P = torch.tensor(
            [p.numel() * (2 if p.is_complex() else 1) / max(1, views[id(p)].numel()) for p in self.parameters],
            dtype=torch.float64, device=parameters[0].device,
        )  # fmt: skip
        self._sizes = [(size, len(list(run))) for size, run in groupby(view.numel() for view in self._views)]

    @property
    def is_current(self) -> bool:
        """False once parameters got other memory: the views would show the old one."""
        return self._addresses == [*map(Tensor.data_ptr, self.parameters)]

    def copied(self) -> Tensor:
        return torch.cat([view if view.dim() == 1 else view.reshape(-1) for view in self._views])

    def squares(self, copies_CS: Tensor) -> Tensor:
        """(C, P) squared norms."""
        wide = copies_CS.to(torch.promote_types(copies_CS.dtype, torch.float32))
        parts = wide.split([size * count for size, count in self._sizes], dim=1)
        norms = [
            torch.linalg.vector_norm(part.unflatten(1, (count, size)), dim=2)
            for part, (size, count) in zip(parts, self._sizes, strict=True)
        ]
        return torch.cat(norms, dim=1).double().square_().mul_(self._scale_P)


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
        self.norms: tuple[Tensor, ...] = ()  # of the gradients of these parameters
        self.parameters: tuple[Tensor, ...] = ()

    def before(self, *, scale: Tensor | None = None) -> None:
        """Read gradients and weights, before the optimizer moves them.

        Args:
            scale: What the gradients are multiplied by (AMP), where the optimizer itself takes it off.
        """
        self._read_gradients(scale)
        self.values = [view.copied() for view in self.views]

    def after(self) -> None:
        """Read the weights again; gradients of a closure exist only now."""
        if not self.norms:
            self._read_gradients(None)
        if self.views is self._own.views():
            self.values_after = [view.copied() for view in self.views]

    def _read_gradients(self, scale: Tensor | None) -> None:
        # a sparse gradient that was coalesced may round another way in the optimizer
        self.norms, self.parameters = separate_norms(self._own.parameters, coalesces=False)
        if scale is not None:
            self.norms = tuple(norm / scale for norm in self.norms)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Steps of one kind can be measured together."""
        return self.views, bool(self.values_after), tuple(map(id, self.parameters))


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
    first = steps[0]
    before = [torch.stack(own) for own in zip(*(step.values for step in steps), strict=True)]
    weights_KL = weights.norms(first.views, before)
    tables = [_table(places, weights.layers, {"weight_norm": weights_KL})]
    if not first.norms:
        return tables
    norms_KP = torch.stack([norm for step in steps for norm in step.norms]).double().view(len(steps), -1)
    totals_K = torch.linalg.vector_norm(norms_KP, dim=1)
    fields = {"gradient_norm": weights.by_layer(first.parameters, norms_KP.square_()).sqrt_()}
    if first.values_after:
        after = [torch.stack(own) for own in zip(*(step.values_after for step in steps), strict=True)]
        updates_KL = weights.norms(first.views, [b.sub_(a) for a, b in zip(before, after, strict=True)])
        fields["update_ratio"] = updates_KL / weights_KL.clamp_min(1e-12)
    chosen = weights.owners(first.parameters)
    names = tuple(weights.layers[at] for at in chosen)
    if len(chosen) < len(weights.layers):
        fields = {field: values_KL[:, chosen] for field, values_KL in fields.items()}
    return [*tables, _table(places, names, fields), _table(places, ("",), {"gradient_norm": totals_K})]


def _table(places: Sequence[int], layers: Sequence[str], fields: dict[str, Tensor]) -> Table:
    values_FL = torch.stack([values_KL.reshape(-1) for values_KL in fields.values()])
    return Table(tuple(product(places, layers)), tuple(fields), values_FL)
