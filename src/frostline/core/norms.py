"""Gradient norms, computed once per step for everyone who needs them. Legend: P parameters with a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NARROW = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class GradientNorms:
    """The 2-norms of the gradients of some parameters, on the device, not yet read.

    Attributes:
        total: 0-d tensor: the norm of all gradients together, 0 if there is none.
        norms: (P,) tensor: the norm of each gradient.
        parameters: The P parameters that have a gradient, in the order given, each once.
    """

    total: Tensor
    norms: Tensor
    parameters: tuple[Tensor, ...]


def gradient_norms(parameters: Iterable[Tensor] | Tensor, *, dtype: torch.dtype | None = None) -> GradientNorms:
    """The norm of each gradient and of all together, without waiting for the device.

    Parameters without a gradient are left out, tied ones counted once. Half precision is summed in float32, float64
    in float64. Complex gradients count by modulus, sparse ones by their summed entries.

    Args:
        parameters: Parameters, whose `.grad` is read.
        dtype: Sum in this dtype instead, for gradients whose squares do not fit into their own.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> gradient_norms([weight, weight]).total
        tensor(5.)
    """
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    chosen = tuple({id(p): p for p in given if p.grad is not None}.values())
    if not chosen:
        return GradientNorms(torch.zeros(()), torch.zeros(0), ())
    with torch.no_grad():
        gradients = [_entries(parameter) for parameter in chosen]
        kinds = [(gradient.device, gradient.dtype) for gradient in gradients]
        if kinds.count(kinds[0]) == len(kinds):
            found = list(_norms(gradients, dtype))
        else:
            found = [norm for gradient in gradients for norm in _norms([gradient], dtype)]
            common = torch.float64 if any(norm.dtype == torch.float64 for norm in found) else torch.float32
            found = [norm.to(found[0].device, common) for norm in found]
        norms_P = torch.stack(found)
        return GradientNorms(torch.linalg.vector_norm(norms_P), norms_P, chosen)


def _norms(gradients: list[Tensor], dtype: torch.dtype | None) -> Sequence[Tensor]:
    wide = dtype or (torch.float32 if gradients[0].dtype in _NARROW else gradients[0].dtype)
    return torch._foreach_norm(gradients, 2, wide)  # pyright: ignore[reportPrivateImportUsage]


def entries(parameter: Tensor) -> Tensor:
    """The gradient as a dense, real tensor that shares its memory; a sparse gradient is coalesced for good."""
    return _entries(parameter).detach()


def _entries(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros(0)
    if gradient.is_sparse:
        if not gradient.is_coalesced():
            gradient = gradient.coalesce()
            parameter.grad = gradient
        gradient = gradient._values()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient
