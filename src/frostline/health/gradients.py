"""Gradients, weights and updates of one step, by layer; tensors stay on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.core.norms import gradient_norms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.health.layers import Found


class Step:
    """What one optimizer step saw and did.

    Args:
        found: The layers.
    """

    def __init__(self, found: Sequence[Found]) -> None:
        self.owners = [(entry.layer.name, parameter) for entry in found for parameter in entry.parameters]
        self._before: list[Tensor] = []
        self._gradients: dict[int, Tensor] = {}
        self._weights: list[Tensor] = []
        self._updates: list[Tensor] = []
        self.total: Tensor | None = None

    def before(self, *, keeps_weights: bool, scale: Tensor | None = None) -> None:
        """Read gradients and weights, before the optimizer moves them.

        Args:
            keeps_weights: True if `after` will be called.
            scale: What the gradients are multiplied by (AMP), where the optimizer itself takes it off.
        """
        parameters = [parameter for _, parameter in self.owners]
        self._read_gradients(scale)
        with torch.no_grad():
            self._weights = _norms([parameter.detach() for parameter in parameters])
            self._before = [parameter.detach().clone() for parameter in parameters] if keeps_weights else []

    def after(self) -> None:
        """Compare the weights with what they were; gradients of a closure exist only now."""
        if not self._gradients:
            self._read_gradients(None)
        if self._before:
            with torch.no_grad():
                now = [parameter.detach() for _, parameter in self.owners]
                self._updates = _norms(list(torch._foreach_sub(now, self._before)))  # pyright: ignore[reportPrivateImportUsage]
            self._before = []

    def _read_gradients(self, scale: Tensor | None) -> None:
        parameters = [parameter for _, parameter in self.owners]
        own = [(parameter, parameter.grad) for parameter in parameters]
        measured = gradient_norms(parameters)
        for parameter, gradient in own:  # sparse ones were coalesced: that may round another way in the optimizer
            if parameter.grad is not gradient:
                parameter.grad = gradient
        norms, total = (measured.norms, measured.total) if scale is None else (
            measured.norms / scale, measured.total / scale)  # fmt: skip
        self._gradients = {id(p): norm for p, norm in zip(measured.parameters, norms, strict=True)}
        self.total = total if measured.parameters else None

    def by_layer(self) -> dict[str, dict[str, Tensor]]:
        """0-d tensors: gradient_norm, weight_norm, update_ratio of each layer that has them."""
        found: dict[str, dict[str, Tensor]] = {}
        names: dict[str, list[int]] = {}
        for at, (name, _) in enumerate(self.owners):
            names.setdefault(name, []).append(at)
        for name, places in names.items():
            gradients = [self._gradients[id(self.owners[at][1])] for at in places
                         if id(self.owners[at][1]) in self._gradients]  # fmt: skip
            own = {"weight_norm": _total([self._weights[at] for at in places])}
            if gradients:
                own["gradient_norm"] = _total(gradients)
            if self._updates and gradients:
                moved = _total([self._updates[at] for at in places])
                own["update_ratio"] = moved / own["weight_norm"].clamp_min(1e-12)
            found[name] = own
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


def _total(norms: list[Tensor]) -> Tensor:
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))
