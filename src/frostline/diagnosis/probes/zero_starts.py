"""Factors that start at zero, or near it, on purpose: what stands before them gets its gradient once they have moved.

LoRA's second matrix, the last layer of an adapter, the zero layers of ControlNet and Fixup, adaLN-zero, ReZero,
LayerScale, the last scale of a residual branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from frostline.diagnosis.monitor.layers import Found

# LayerScale starts at 1e-6 to 1e-4 (Touvron et al. 2021, Going deeper with image transformers, section 2; ConvNeXt).
_SMALL = 1e-2


@dataclass(frozen=True)
class ZeroStarts:
    """What starts at zero in a model, before its first step.

    Attributes:
        layers: Trainable layers with weights, all of which are zero.
        held: Layers in a block with a trainable scale that is the same small number everywhere.
    """

    layers: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()

    def without(self, shares: Mapping[str, float]) -> list[tuple[str, float]]:
        """Shares by layer, those of layers that start at zero left out."""
        return [(name, share) for name, share in shares.items() if name not in self.layers]


def zero_starts(found: Sequence[Found]) -> ZeroStarts:
    """The layers that start at zero, and those that small scales hold back.

    The block of a scale is the module that owns it, if this holds layers with weights; else the module around that.
    """
    trained = [entry for entry in found if entry.parameters and not any(map(is_lazy, entry.parameters))]
    layers = [entry for entry in trained if entry.layer.has_weights]
    names = {entry.layer.name for entry in found if entry.layer.has_weights}
    held: set[str] = set()
    for entry in trained:
        if not entry.layer.has_weights and any(map(_is_small, _scales(entry))):
            own = _inside(names, entry.layer.name)
            held |= own or _inside(names, entry.layer.name.rpartition(".")[0])
    return ZeroStarts(frozenset(entry.layer.name for entry in layers if _is_zero(entry)), frozenset(held))


def _inside(names: set[str], block: str) -> set[str]:
    return {name for name in names if not block or name.startswith(f"{block}.")}


def _is_zero(entry: Found) -> bool:
    matrices = [parameter for parameter in entry.parameters if parameter.dim() > 1]
    return bool(matrices) and not any(bool(matrix.detach().any()) for matrix in matrices)


def _scales(entry: Found) -> Iterator[nn.Parameter]:
    """The trainable parameters of a module that are no biases."""
    for name, parameter in entry.module.named_parameters(recurse=False):
        if parameter.requires_grad and "bias" not in name and parameter.numel():
            yield parameter


def _is_small(scale: nn.Parameter) -> bool:
    values = scale.detach().reshape(-1)
    first = values[0]
    return not values.is_complex() and abs(float(first)) <= _SMALL and bool((values == first).all())
