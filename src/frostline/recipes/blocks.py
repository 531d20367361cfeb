"""The blocks of a model: layers that a schedule thaws or freezes one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.core.layers import submodule
from frostline.transfer import freeze, passing_freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.core.records import FreezeSummary

_FEWEST, _MOST = 4, 12
_LARGE = 0.6  # a list of layers with a larger share of the parameters is taken apart
_SMALL = 0.01  # layers with a smaller share of what moves go with their neighbours


def block_names(model: nn.Module) -> list[str]:
    """Names of the blocks in the order of registration: children, large lists of layers taken apart."""
    names = _children(model, "")
    while names and len(names) <= _MOST:
        sizes = {name: _size(submodule(model, name)) for name in names}
        largest = max(names, key=lambda name: sizes[name])
        inner = _children(model, largest)
        is_list = isinstance(submodule(model, largest), (nn.Sequential, nn.ModuleList)) or len(inner) == 1
        is_large = is_list and sizes[largest] > _LARGE * sum(sizes.values())
        if not inner or not (is_large or len(names) < _FEWEST):
            break
        at = names.index(largest)
        names[at : at + 1] = inner
    return names


def layers_to_thaw(model: nn.Module) -> list[str | None]:
    """Layers to thaw down to, the topmost first; the last is None, the whole model, if that leaves nothing frozen."""
    found: list[str | None] = [*_in_steps(model, block_names(model)[::-1], thaw)]
    with passing_freeze(model):
        if found:
            thaw(model, found[-1])
        before = _size_of_trained(model)
        summary = thaw(model)
        rest = _size_of_trained(model) - before
    if found and rest <= _SMALL * summary.num_parameters:
        found[-1] = None
    elif rest:
        found.append(None)
    return found


def layers_to_freeze(model: nn.Module) -> list[str]:
    """Layers to freeze through, the lowest first; the last block stays trainable."""
    return _in_steps(model, block_names(model)[:-1], freeze)


def _in_steps(model: nn.Module, names: list[str], move: Callable[[nn.Module, str], FreezeSummary]) -> list[str]:
    """Those of the names, in order, at which a move of the line changes more than a little; at most a dozen."""
    found: list[str] = []
    with passing_freeze(model):
        moved = 0
        for name in names:
            before = _size_of_trained(model)
            summary = move(model, name)
            moved += abs(_size_of_trained(model) - before)
            if moved > _SMALL * summary.num_parameters and summary.num_frozen < summary.num_parameters:
                found.append(name)
                moved = 0
    step = -(-len(found) // _MOST) if found else 1
    return found[step - 1 :: step]


def _children(model: nn.Module, name: str) -> list[str]:
    inside = submodule(model, name)
    prefix = f"{name}." if name else ""
    return [f"{prefix}{child}" for child, module in inside.named_children() if _has_weights(module)]


def _has_weights(module: nn.Module) -> bool:
    """False for a lone norm, which goes with its neighbours."""
    return any(parameter.dim() > 1 for parameter in module.parameters())


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _size_of_trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
