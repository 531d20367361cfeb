"""Gradients, weights and updates of one step, by layer; tensors stay on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.core.norms import GradientNorms, gradient_norms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.health.layers import Found


class Copies:
    """Room for the weights before a step. On a CPU it is kept: fresh memory costs ten times what the copy does."""

    def __init__(self) -> None:
        self._room: list[Tensor] = []

    def make(self, tensors: list[Tensor]) -> list[Tensor]:
        """Copies, which `give_back` takes."""
        room, self._room = self._room, []
        fits = len(room) == len(tensors) and all(
            own.shape == other.shape and own.dtype == other.dtype and own.device == other.device
            for own, other in zip(room, tensors, strict=True)
        )
        if not fits:
            return [tensor.clone() for tensor in tensors]
        torch._foreach_copy_(room, tensors)  # pyright: ignore[reportPrivateImportUsage]
        return room

    def give_back(self, room: list[Tensor]) -> None:
        """Keep the room for the next step."""
        self._room = room if all(tensor.device.type == "cpu" for tensor in room) else []


class Step:
    """What one optimizer step saw and did.

    Args:
        found: The layers.
        copies: Room that earlier steps left.
    """

    def __init__(self, found: Sequence[Found], copies: Copies | None = None) -> None:
        self.owners = [(entry.layer.name, parameter) for entry in found for parameter in entry.parameters]
        self._copies = copies or Copies()
        self._before: list[Tensor] = []
        self._measured: GradientNorms | None = None
        self._weights: list[Tensor] = []
        self._updates: list[Tensor] = []
        self.total: Tensor | None = None

    def before(self, *, keeps_weights: bool, scale: Tensor | None = None) -> None:
        """Read gradients and weights, before the optimizer moves them.

        Args:
            keeps_weights: True if `after` will be called.
            scale: What the gradients are multiplied by (AMP), where the optimizer itself takes it off.
        """
        weights = [parameter.detach() for _, parameter in self.owners]
        self._read_gradients(scale)
        with torch.no_grad():
            self._weights = _norms(weights)
            self._before = self._copies.make(weights) if keeps_weights else []

    def after(self) -> None:
        """Compare the weights with what they were; gradients of a closure exist only now."""
        if self._measured is None or not self._measured.parameters:
            self._read_gradients(None)
        if self._before:
            with torch.no_grad():
                now = [parameter.detach() for _, parameter in self.owners]
                torch._foreach_sub_(self._before, now)  # pyright: ignore[reportPrivateImportUsage]
                self._updates = _norms(self._before)
            self._copies.give_back(self._before)
            self._before = []

    def _read_gradients(self, scale: Tensor | None) -> None:
        own = [(parameter, parameter.grad) for _, parameter in self.owners]
        measured = gradient_norms(parameter for parameter, _ in own)
        for parameter, gradient in own:  # sparse ones were coalesced: that may round another way in the optimizer
            if gradient is not None and gradient.is_sparse and parameter.grad is not gradient:
                parameter.grad = gradient
        if scale is not None:
            measured = GradientNorms(measured.total / scale, measured.norms / scale, measured.parameters)
        self._measured = measured
        self.total = measured.total if measured.parameters else None

    def by_field(self) -> dict[str, tuple[list[str], Tensor]]:
        """Of gradient_norm, weight_norm and update_ratio: the layers that have it, and their values in this order."""
        if self._measured is None or not self.owners:
            return {}
        places = {name: at for at, name in enumerate(dict.fromkeys(name for name, _ in self.owners))}
        owner = {id(parameter): places[name] for name, parameter in self.owners}
        with_gradient = [owner[id(parameter)] for parameter in self._measured.parameters]
        all_places = [places[name] for name, _ in self.owners]
        gradients_P = self._measured.norms
        weights_P, updates_P = _joined(self._weights), _joined(self._updates or self._weights)
        parts = torch.cat([weights_P, updates_P, gradients_P.to(weights_P)])
        count = len(places)
        at = [*all_places, *(count + at for at in all_places), *(2 * count + at for at in with_gradient)]
        weights_L, updates_L, gradients_L = _totals(parts, at, 3 * count).view(3, count)
        found = {"weight_norm": (list(places), weights_L)}
        own = sorted(set(with_gradient))
        names = [list(places)[at] for at in own]
        if own:
            found["gradient_norm"] = (names, gradients_L if len(own) == count else gradients_L[own])
        if own and self._updates:
            ratios_L = updates_L / weights_L.clamp_min(1e-12)
            found["update_ratio"] = (names, ratios_L if len(own) == count else ratios_L[own])
        return found

    def by_layer(self) -> dict[str, dict[str, Tensor]]:
        """0-d tensors: gradient_norm, weight_norm, update_ratio of each layer that has them."""
        found: dict[str, dict[str, Tensor]] = {}
        for field, (names, values) in self.by_field().items():
            for name, value in zip(names, values, strict=True):
                found.setdefault(name, {})[field] = value
        return found


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    dense = [t.abs() if t.is_complex() else t for t in tensors]
    by_dtype: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for at, tensor in enumerate(dense):
        by_dtype.setdefault((tensor.device, tensor.dtype), []).append(at)
    found = [torch.zeros(())] * len(dense)
    for places in by_dtype.values():
        kind = dense[places[0]].dtype
        wide = torch.float32 if kind in (torch.float16, torch.bfloat16) else kind  # half precision overflows at 65,504
        own = [dense[at] for at in places]
        norms = torch._foreach_norm(own, 2, wide)  # pyright: ignore[reportPrivateImportUsage]
        for at, norm in zip(places, norms, strict=True):
            found[at] = norm
    return found


def _joined(norms: list[Tensor]) -> Tensor:
    if any(norm.device != norms[0].device or norm.dtype != norms[0].dtype for norm in norms):
        norms = [norm.to(norms[0].device, torch.float64) for norm in norms]
    return torch.stack(norms)


def _totals(norms: Tensor, places: list[int], count: int) -> Tensor:
    """(count,) the norm of all tensors of each place together, from their norms; summed in float64."""
    squares = torch.zeros(count, dtype=torch.float64, device=norms.device)
    squares.index_add_(0, torch.tensor(places, device=norms.device), norms.double().square_())
    return squares.sqrt_()
