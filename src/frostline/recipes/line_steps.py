"""The steps of a schedule by rule: lines at which the model can be frozen, as layers to thaw or to freeze in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from frostline.core.mismatch import told_mismatch
from frostline.core.restore import kept_generators, kept_modes
from frostline.selection import find_lines
from frostline.transfer import freeze, passing_freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.core.records import FreezeSummary

_MOST = 8  # with a patience of 2, a plateau at every step takes 16 epochs
_SMALL = 0.01  # steps that move a smaller share of the parameters are joined with their neighbours


def usable_lines(model: nn.Module, inputs: Any) -> list[str]:
    """Names of layers through which the model can be frozen, the lowest first; above the last trains the output layer.

    Args:
        model: It is run once, in evaluation mode, and left as it was.
        inputs: A few samples, as the model takes them.
    """
    with passing_freeze(model), kept_modes(model), kept_generators(), told_mismatch(model, inputs):
        model.eval()
        lines = find_lines(model, inputs)
    return [line.through for line in lines if line.through is not None and not line.why_not]


def layers_to_thaw(model: nn.Module, inputs: Any) -> list[str | None]:
    """Layers to thaw down to, the topmost first; the last is None, the whole model, if that leaves nothing frozen."""
    names = [_first_above(model, line) for line in reversed(usable_lines(model, inputs))]
    found: list[str | None] = [*_in_steps(model, names, thaw)]
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


def layers_to_freeze(model: nn.Module, inputs: Any) -> list[str]:
    """Layers to freeze through, the lowest first; the output layer stays trainable."""
    return _in_steps(model, usable_lines(model, inputs), freeze)


def _first_above(model: nn.Module, line: str) -> str:
    """The largest module that begins above a line; all that is registered after it trains there."""
    named = [name for name, module in model.named_modules() if next(module.parameters(), None) is not None]
    last = max(at for at, name in enumerate(named) if name == line or name.startswith(f"{line}."))
    lists = (nn.ModuleList, nn.ModuleDict)  # no layers, but lists of them
    return next(name for name in named[last + 1 :] if not isinstance(model.get_submodule(name), lists))


def _in_steps(model: nn.Module, names: list[str], move: Callable[[nn.Module, str], FreezeSummary]) -> list[str]:
    """Those of the names, in order, at which a move of the line changes more than a little; at most so many."""
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


def _size_of_trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
