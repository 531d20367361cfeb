"""Weight norm and spectral norm in modules, both as hooks (`torch.nn.utils.weight_norm`) and as parametrizations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHT, SPECTRAL = "weight norm", "spectral norm"
_PARTS: dict[type[nn.Module], tuple[str, dict[str, str]]] = {
    parametrizations._WeightNorm: (WEIGHT, {"g": "original0", "v": "original1"}),
    parametrizations._SpectralNorm: (SPECTRAL, {"orig": "original", "u": "0._u", "v": "0._v"}),
}  # the names in parametrizations, by the suffix in the hook implementation


@dataclass(frozen=True)
class Norm:
    """The norm from which a layer computes one of its tensors.

    Attributes:
        kind: `WEIGHT` or `SPECTRAL`.
        shape: The shape of the computed tensor.
        dim: The axis of the rows in the matrix of a spectral norm.
        tensors: The stored tensors, by their names in the hook implementation (`weight_g`, `weight_v`).
        names: Their names in the layer, if it is parametrized.
    """

    kind: str
    shape: tuple[int, ...]
    dim: int
    tensors: Mapping[str, Tensor] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict[str, str])


def norms_of(module: nn.Module) -> dict[str, Norm]:
    """The norms of a layer by the name of the computed tensor; empty if there is none, or it is of an unknown kind."""
    return _old(module) or _new(module)


def _old(module: nn.Module) -> dict[str, Norm]:
    found: dict[str, Norm] = {}
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, (WeightNorm, SpectralNorm)):
            kind, ends = (WEIGHT, "gv") if isinstance(hook, WeightNorm) else (SPECTRAL, ("orig", "u", "v"))
            tensors: dict[str, Tensor] = {f"{hook.name}_{end}": getattr(module, f"{hook.name}_{end}") for end in ends}
            whole = tensors[f"{hook.name}_{'v' if kind == WEIGHT else 'orig'}"]
            found[hook.name] = Norm(kind, tuple(whole.shape), hook.dim, tensors)
    return found


def _new(module: nn.Module) -> dict[str, Norm]:
    if not parametrize.is_parametrized(module):
        return {}
    lists = module.parametrizations
    assert isinstance(lists, nn.ModuleDict)
    found: dict[str, Norm] = {}
    for own, each in lists.items():
        assert isinstance(each, parametrize.ParametrizationList)
        kind, parts = _PARTS.get(type(each[0]), ("", {})) if len(each) == 1 else ("", {})
        own_tensors = dict(each.named_parameters()) | dict(each.named_buffers())
        if not kind or not set(parts.values()) <= set(own_tensors):
            return {}
        tensors = {f"{own}_{end}": own_tensors[name] for end, name in parts.items()}
        names = {f"{own}_{end}": f"parametrizations.{own}.{name}" for end, name in parts.items()}
        whole = tensors[f"{own}_{'v' if kind == WEIGHT else 'orig'}"]
        dim = each[0].dim
        assert isinstance(dim, int)
        found[own] = Norm(kind, tuple(whole.shape), dim, tensors, names)
    return found
