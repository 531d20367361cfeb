"""The flow of values between the layers of a module: it is run once on an example, and every operation is followed.

Legend: B batch, C channels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from frostline.core.inputs import call
from frostline.core.layers import submodule
from frostline.core.restore import undisturbed
from frostline.porting.graphs.axes_of_run import AxesOfRun, Flat
from frostline.porting.graphs.examples import examples
from frostline.porting.units.unit import is_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.units.unit import TargetUnit

Edges = dict[str, set[str]]  # by unit: the units whose outputs reach it without another unit in between


_LONGEST = 160  # letters of what a module says of an input that it does not take


@dataclass(frozen=True)
class Flow:
    """The result of one run of the module.

    Attributes:
        edges: For each unit the units before it.
        flattened: By unit: the axes of its weights that stand for one or several whole maps.
        idle: Units that the outputs do not depend on; empty if some output could not be followed.
        example: The inputs of the run.
    """

    edges: Edges
    flattened: dict[str, tuple[Flat, ...]] = field(default_factory=dict[str, tuple[Flat, ...]])
    idle: frozenset[str] = frozenset()
    example: Any = field(default=None, repr=False)


def followed(
    model: nn.Module,
    units: Sequence[TargetUnit],
    inputs: Any = None,
    shapes: Sequence[tuple[tuple[int, ...], str]] = (),
) -> tuple[Flow | None, str]:
    """Run the module in evaluation mode, and follow its values.

    Args:
        model: The module; its modes and random generators are restored.
        units: The units of the module.
        inputs: Inputs in the form that the module takes; None tries inputs that its layers can take.
        shapes: As in `examples`.

    Returns:
        What the run showed, None if no input could be run; and why the first of them could not.
    """
    failure = ""
    for example in examples(model, shapes) if inputs is None else [inputs]:
        watch = _CallRecorder(units, is_guessed=inputs is None and not shapes)
        try:
            with undisturbed(model), warnings.catch_warnings(), torch.enable_grad(), watch:
                warnings.simplefilter("ignore")
                watch.begin(example)
                outputs = _tensors(call(model, example))
                for output in outputs:
                    watch.axes.end(output)
        except Exception as error:  # the forward of a user may raise anything on an input that it does not take
            failure = failure or _failure(example, error)
            continue
        return Flow(watch.edges, watch.axes.flats(), watch.idle(outputs), example), ""
    return None, failure


def _failure(example: Any, error: Exception) -> str:
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in _tensors(example))
    reason = next(iter(str(error).splitlines()), "")[:_LONGEST]
    return f"an input of shape {shapes} gives {type(error).__name__}: {reason}"


class _CallRecorder(TorchFunctionMode):
    """Follows tensors by identity: the units from whose outputs each value was computed, and the weights of units."""

    def __init__(self, units: Sequence[TargetUnit], *, is_guessed: bool) -> None:
        super().__init__()
        self.edges: Edges = {}
        self.axes = AxesOfRun(is_guessed=is_guessed)
        self._order = {unit.name: index for index, unit in enumerate(units)}
        self._weights: dict[int, frozenset[str]] = {}
        self._reached: dict[int, frozenset[str]] = {}
        self._alive: list[Any] = []  # Python reuses the identity of a freed tensor: all of them are kept
        for unit in units:
            held = list(unit.tensors.values())
            parametrizations = getattr(unit.module, "parametrizations", None)
            if is_layer(unit.module) and isinstance(parametrizations, nn.Module):
                held += parametrizations.parameters()
            for tensor in held:
                self._weights[id(tensor)] = self._weights.get(id(tensor), frozenset()) | {unit.name}

    def begin(self, inputs: Any) -> None:
        """Register the inputs of the module, which come from no unit."""
        for tensor in _tensors(inputs):
            self._reached[id(tensor)] = frozenset()
            self.axes.begin(tensor)

    def idle(self, outputs: Sequence[Tensor]) -> frozenset[str]:
        """The units that none of the outputs depends on."""
        if not outputs or any(id(one) not in self._reached for one in outputs):
            return frozenset()
        waiting = [name for one in outputs for name in self._reached[id(one)]]
        used: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in used:
                used.add(name)
                waiting += self.edges.get(name, ())
        return frozenset(self._order) - used

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        taken, made = _tensors((args, kwargs)), _tensors(result)
        self._alive += (taken, made)
        before = [self._reached[id(one)] for one in taken if id(one) in self._reached]
        weights = frozenset[str]().union(*(self._weights.get(id(one), frozenset()) for one in taken))
        if getattr(func, "__name__", "") == "__setitem__" and taken:
            made = [taken[0]]
        if not before:  # computed from weights only, or from constants
            if weights:
                self._weights.update({id(one): weights for one in made})
            return result
        reached = frozenset[str]().union(*before)
        for stage in self._stages(weights):
            for name in stage:
                self.edges.setdefault(name, set()).update(reached - {name})
            reached = frozenset(stage)
        self.axes.follow(func, args, kwargs, (taken, made), self._weights)
        self._reached.update({id(one): reached for one in made})
        return result

    def _stages(self, names: frozenset[str]) -> list[list[str]]:
        """The units of one operation by stage: layers of a recurrent module run in sequence, its directions at once."""
        stages: dict[str, list[str]] = {}
        for name in sorted(names, key=self._order.__getitem__):
            stages.setdefault(name.removesuffix("_reverse"), []).append(name)
        return list(stages.values())


def contracted(nodes: Sequence[tuple[Sequence[Sequence[str]], Sequence[int]]]) -> Edges:
    """The flow between units, from a graph of nodes of which only some are units.

    Args:
        nodes: The nodes in an order in which they can be computed: for each one its units, stage by stage (units of one
            stage run at once), and the indices of the nodes whose outputs it takes.
    """
    edges: Edges = {}
    reached: list[set[str]] = []
    for stages, inputs in nodes:
        before = set[str]().union(*(reached[index] for index in inputs)) if inputs else set[str]()
        for stage in stages:
            for name in stage:
                edges.setdefault(name, set()).update(before - {name})
            before = set(stage)
        reached.append(before)
    return edges


def is_before(edges: Edges, first: str, second: str) -> bool:
    """Whether values flow from the first unit to the second on any path, and not back: in a loop neither is first."""
    return _reaches(edges, first, second) and not _reaches(edges, second, first)


def _reaches(edges: Edges, first: str, second: str) -> bool:
    waiting, seen = list(edges.get(second, ())), set[str]()
    while waiting:
        name = waiting.pop()
        if name == first:
            return True
        if name not in seen:
            seen.add(name)
            waiting += edges.get(name, ())
    return False


def is_before_in_containers(model: nn.Module, first: str, second: str) -> bool:
    """Whether both are in one `Sequential` or `ModuleList`, and the first one is in an earlier entry."""
    parts, others = first.split("."), second.split(".")
    shared = 0
    while shared < min(len(parts), len(others)) - 1 and parts[shared] == others[shared]:
        shared += 1
    if parts[shared] == others[shared]:
        return False
    holder = submodule(model, ".".join(parts[:shared]))
    if not isinstance(holder, (nn.Sequential, nn.ModuleList)):
        return False
    entries = list(holder._modules)
    return entries.index(parts[shared]) < entries.index(others[shared])


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for one in value.values() for tensor in _tensors(one)]
    if isinstance(value, (tuple, list)):
        return [tensor for one in value for tensor in _tensors(one)]
    return []
