"""Gradient norms, computed once per step for everyone who needs them. Legend: P parameters with a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

_KIND = attrgetter("dtype", "device", "layout", "requires_grad")
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
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    norms, chosen = separate_norms({id(parameter): parameter for parameter in given}.values(), dtype=dtype)
    if not chosen:
        return GradientNorms(torch.zeros(()), torch.zeros(0), ())
    norms_P = torch.stack(norms)
    return GradientNorms(torch.linalg.vector_norm(norms_P), norms_P, chosen)


def separate_norms(
    parameters: Iterable[Tensor], *, dtype: torch.dtype | None = None, coalesces: bool = True
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The norms of the gradients as 0-d tensors of one dtype and device, and the parameters that have a gradient.

    Args:
        parameters: Each once.
        dtype: As for `gradient_norms`.
        coalesces: A sparse gradient stays coalesced.
    """
    pairs = [(parameter, gradient) for parameter in parameters if (gradient := parameter.grad) is not None]
    if not pairs:
        return (), ()
    chosen, gradients = zip(*pairs, strict=True)
    kinds = set(map(_KIND, gradients))
    kind, device, layout, is_differentiable = next(iter(kinds))
    if len(kinds) == 1 and layout is torch.strided and not kind.is_complex and not is_differentiable:
        return _norms(gradients, dtype), chosen
    with torch.no_grad():
        found = [norm for pair in pairs for norm in _norms((_entries(*pair, coalesces=coalesces),), dtype)]
        common = torch.float64 if any(norm.dtype == torch.float64 for norm in found) else torch.float32
        return tuple(norm.to(device, common) for norm in found), chosen


def _norms(gradients: tuple[Tensor, ...], dtype: torch.dtype | None) -> tuple[Tensor, ...]:
    wide = dtype or (torch.float32 if gradients[0].dtype in _NARROW else gradients[0].dtype)
    return tuple(torch._foreach_norm(gradients, 2, wide))  # pyright: ignore[reportPrivateImportUsage]


def entries(parameter: Tensor) -> Tensor:
    """The gradient as a dense, real tensor that shares its memory; a sparse gradient is coalesced for good."""
    return (
        _entries(parameter, parameter.grad, coalesces=True).detach() if parameter.grad is not None else torch.zeros(0)
    )


def _entries(parameter: Tensor, gradient: Tensor, *, coalesces: bool) -> Tensor:
    if gradient.is_sparse:
        if not gradient.is_coalesced():
            gradient = gradient.coalesce()
            if coalesces:
                parameter.grad = gradient
        gradient = gradient._values()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient
