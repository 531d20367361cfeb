"""Lines at which a model could be frozen, found from one run of it: block borders in the order of execution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]  # all kinds of it

from frostline.core.layers import first_name, resolve
from frostline.selection.live_tensors import live_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.selection.live_tensors import Call, LiveTensors

MOST_LINES = 12
# At a border one tensor carries nearly all that is known of a sample; beside it, masks and positions may live. Inside
# of a block that widens its input tenfold, the input has a share of 0.09.
_NARROW = 0.95
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


@dataclass(frozen=True)
class Line:
    """One line at which the model could be frozen.

    Attributes:
        through: What `freeze(through=)` takes; None is the line below all layers: everything trains.
        tap: Name of the first layer above the line: what it is given first is what the frozen part gives. None for the
            inputs themselves.
        argument: Which of the tensors among that layer's arguments is meant.
        num_trainable: Elements of the parameters that train above the line.
        bytes_per_sample: Bytes that cross the line for each sample.
        why_not: Why the model cannot be frozen at this line by its name; "" if it can.
    """

    through: str | None
    tap: str | None
    argument: int
    num_trainable: int
    bytes_per_sample: int
    why_not: str = ""


def find_lines(model: nn.Module, inputs: Any, candidates: Sequence[str] | None = None) -> tuple[Line, ...]:
    """The lines of a model from the bottom (everything trains) to the top (only the output layer trains).

    A line lies before a layer with weights at which nearly all that lives is one tensor, not inside of a block whose
    paths run beside each other, and not between a layer and its norm. Of more than twelve lines, twelve are kept,
    spread evenly.

    Args:
        model: The model, in inference mode.
        inputs: A few samples, as the model takes them.
        candidates: Names of layers instead: one line through each.

    Raises:
        LayerNotFound: If a candidate is not in the model; the nearest names are listed.
    """
    run = live_tensors(model, inputs)
    layers = _layers(model, run)
    total = sum(parameter.numel() for parameter in model.parameters())
    bottom = Line(None, None, 0, total, _bytes_at(run, run.calls[""].first))
    if candidates is not None:
        found = [_line_through(model, run, layers, first_name(model, resolve(model, name))) for name in candidates]
        return (bottom, *sorted(found, key=lambda line: -line.num_trainable))
    names = [_name_at(run, layers, at) for at in _borders(model, run, layers)]
    return (bottom, *_thinned([_line_through(model, run, layers, name) for name in names]))


def _layers(model: nn.Module, run: LiveTensors) -> list[Call]:
    """Modules that ran and hold parameters of their own, in the order in which they began; the model is not one."""
    owners = {
        name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None
    }
    return [call for name, call in run.calls.items() if name and name in owners]


def _borders(model: nn.Module, run: LiveTensors, layers: list[Call]) -> list[int]:
    """Places in `layers` before which a line may lie; always before the last one, the output layer."""
    is_norm = [isinstance(model.get_submodule(layer.name), _NORMS) for layer in layers]
    found: list[int] = []
    for at in range(1, len(layers)):
        is_last = at == len(layers) - 1
        below = is_norm[found[-1] if found else 0 : at]
        if is_last or (not all(below) and _is_border(model, run, layers, at)):  # norms alone are not worth a line
            found.append(at)
    return found


def _is_border(model: nn.Module, run: LiveTensors, layers: list[Call], at: int) -> bool:
    """True if a line may lie before this layer."""
    layer, below = layers[at], layers[at - 1]
    if layer.first <= below.last and _is_inside(layer.name, below.name):
        return False  # a layer that holds others as well as weights of its own: all of it is one unit
    if isinstance(model.get_submodule(layer.name), nn.Embedding):
        return False  # it takes indices: what is below it passes by
    opened = _opened_by(run, layers, at)
    if isinstance(model.get_submodule(layer.name), _NORMS) and opened == layer.name:
        return False  # a norm belongs to what is below it
    if any(_is_block(model, run, name) for name in _around(layer.name) if _has_begun(run, layers, at, name)):
        return False
    return _is_narrow(run, layer.first)


def _is_narrow(run: LiveTensors, moment: int) -> bool:
    sizes = run.sizes_at(moment)
    return bool(sizes) and sizes[0] >= _NARROW * sum(sizes)


def _is_block(model: nn.Module, run: LiveTensors, name: str) -> bool:
    """True if paths run beside each other in this module, or in another one of its class."""
    kind = type(model.get_submodule(name))
    alike = [name] if kind.__module__.startswith("torch.nn") else [
        other for other in run.calls if other and type(model.get_submodule(other)) is kind
    ]  # fmt: skip
    return any(_runs_beside(model, run, other) for other in alike)


def _runs_beside(model: nn.Module, run: LiveTensors, name: str) -> bool:
    """True if at most borders between the layers that a module calls itself more than one tensor lives."""
    inside = [call for call in run.calls.values() if _nearest_called(run, call.name) == name]
    owners = [c for c in inside if next(model.get_submodule(c.name).parameters(), None) is not None]
    moments = [call.first for call in owners[1:]]
    return bool(moments) and 2 * sum(not _is_narrow(run, moment) for moment in moments) >= len(moments)


def _nearest_called(run: LiveTensors, name: str) -> str | None:
    """The innermost module around this one that was called itself (lists of modules are not)."""
    return next((outer for outer in _around(name) if outer in run.calls), None)


def _around(name: str) -> list[str]:
    """Names of the modules around one, from the innermost; the model itself is left out."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _is_inside(name: str, other: str) -> bool:
    return name == other or name.startswith(f"{other}.")


def _has_begun(run: LiveTensors, layers: list[Call], at: int, name: str) -> bool:
    """True if a layer of this module has run before this one."""
    return any(_is_inside(layer.name, name) for layer in layers[:at])


def _opened_by(run: LiveTensors, layers: list[Call], at: int) -> str:
    """The outermost module whose first layer this is."""
    name = layers[at].name
    outer = [around for around in _around(name) if around in run.calls and not _has_begun(run, layers, at, around)]
    return outer[-1] if outer else name


def _name_at(run: LiveTensors, layers: list[Call], at: int) -> str:
    """The largest module that ends at this border: none of its layers is above it."""
    name, above = layers[at - 1].name, [layer.name for layer in layers[at:]]
    whole = [name, *(outer for outer in _around(name) if not any(_is_inside(other, outer) for other in above))]
    return whole[-1]


def _line_through(model: nn.Module, run: LiveTensors, layers: list[Call], through: str) -> Line:
    """The line that `freeze(through=)` draws, tapped before the first layer that still trains."""
    frozen = _frozen_by(model, through)
    above = [layer for layer in layers if layer.name not in frozen]
    trains = {id(p): p.numel() for name, module in model.named_modules() if name not in frozen
              for p in module.parameters(recurse=False)}  # fmt: skip
    for name in frozen:  # a parameter that a frozen and a trainable layer share is frozen
        for parameter in model.get_submodule(name).parameters(recurse=False):
            trains.pop(id(parameter), None)
    count = sum(trains.values())
    if not above or not count:
        return Line(through, None, 0, count, 0, "nothing above it would train")
    first = above[0]
    late = [layer.name for layer in layers if layer.name in frozen and layer.first > first.first]
    again = [layer.name for layer in layers if layer.name in frozen and layer.last > first.first and layer.times > 1]
    why = ""
    if late:
        why = f"{_listed(late)} would be frozen too, but {'run' if len(late) > 1 else 'runs'} above {first.name!r}"
    elif again:
        why = f"{_listed(again)} {'run' if len(again) > 1 else 'runs'} again above {first.name!r}"
    elif first.takes is None:
        why = f"{first.name!r}, the first layer above it, takes no tensor"
    tap = first.name if first.takes else None
    return Line(through, tap, first.takes[0] if first.takes else 0, count, _bytes_at(run, first.first), why)


def _frozen_by(model: nn.Module, through: str) -> set[str]:
    """Names of the modules whose own parameters `freeze(through=)` freezes: up to the layer, and its ancestors'."""
    names = [name for name, _ in model.named_modules()]
    last = max(at for at, name in enumerate(names) if _is_inside(name, through))
    return {name for at, name in enumerate(names) if at <= last} | {"", *_around(through)}


def _bytes_at(run: LiveTensors, moment: int) -> int:
    return sum(run.sizes_at(moment)) // max(1, run.num_samples)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _thinned(lines: list[Line]) -> list[Line]:
    """At most so many lines, the first and the last among them; of lines that freeze the same, the last."""
    by_size: dict[int, Line] = {}
    for line in lines:
        by_size[line.num_trainable] = line
    found = list(by_size.values())
    most = MOST_LINES - 1  # one is the line at the bottom
    if len(found) <= most:
        return found
    return [found[round(at * (len(found) - 1) / (most - 1))] for at in range(most)]
