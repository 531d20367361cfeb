"""Frozen layers that are others for the time of a pass: BatchNorms merged into the layer before, compiled blocks.

Modules keep their names and their calls, so that every frontier tensor is found at its address.
"""

from __future__ import annotations

import inspect
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.batchnorm_merge import is_batchnorm_with_activation, merge_after
from frostline.core.errors import DataError
from frostline.core.inputs import call_with_model
from frostline.core.restore import kept_buffers, kept_generators, kept_modes
from frostline.core.tracing import Step, Trace, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from frostline.splitting.plan.graph_plan import Plan

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Replaced:
    """What a module is for the time of a pass.

    Attributes:
        module: The module.
        forward: Its forward; None for its own.
        parameters: Its own parameters by name, where they are others.
    """

    module: nn.Module
    forward: Callable[..., Any] | None = None
    parameters: dict[str, nn.Parameter] = field(default_factory=dict[str, nn.Parameter])

    @contextmanager
    def applied(self) -> Generator[None]:
        """The block runs with it."""
        own: Any = self.module._parameters
        kept = {name: own.get(name) for name in self.parameters}
        own.update(self.parameters)
        if self.forward is not None:
            vars(self.module)["forward"] = self.forward
        try:
            yield
        finally:
            own.update(kept)
            vars(self.module).pop("forward", None)


@dataclass(frozen=True)
class Watched:
    """Where a pass takes tensors or compares sizes, by names of modules.

    Attributes:
        inside: Modules whose calls of torch are listened to.
        returned: Modules whose result is taken.
    """

    inside: frozenset[str]
    returned: frozenset[str]

    @classmethod
    def of(cls, plan: Plan) -> Watched:
        """What the runs of a plan watch."""
        entries = plan.frontier.entries
        points = [point for entry in entries for point in (entry.origin, entry.read) if point is not None]
        for expected in plan.expected.values():
            points += [*expected.guards, *expected.sizes]
        names: tuple[set[str], set[str]] = set(), set()
        for point in points:
            names[point.operation == "return"].add(point.frame.name)
        return cls(*map(frozenset, names))

    def has_below(self, name: str) -> bool:
        """True if something is taken inside of a module, its own result aside."""
        return name in self.inside or any(own.startswith(f"{name}.") for own in self.inside | self.returned)


def folded_norms(model: nn.Module, inputs: Any, watched: Watched) -> tuple[list[Replaced], str]:
    """Frozen BatchNorms as a part of the layer before them, and how many of all these are.

    Args:
        model: The model.
        inputs: A batch that shows what feeds what.
        watched: A layer whose result is taken as it is keeps it.
    """
    norms = {name: own for name, own in model.named_modules() if isinstance(own, _NORMS) and _is_frozen(own)}
    with kept_modes(model):
        model.eval()
        traced = trace(model, inputs)
    names = {id(module): name for name, module in model.named_modules()}
    slots = Counter(id(own) for _, own in model.named_parameters(remove_duplicate=False))
    found: list[Replaced] = []
    for name, norm in norms.items():
        layer = _layer_before(norm, traced)
        if layer is None or name in watched.inside or any(slots[id(own)] > 1 for own in layer.parameters()):
            continue
        if names[id(layer)] in watched.inside | watched.returned:
            continue
        merged = [value.to(layer.weight.dtype) for value in merge_after(layer, norm)]  # type: ignore[arg-type]
        weight, bias = (nn.Parameter(value, requires_grad=False) for value in merged)
        found += [Replaced(layer, parameters={"weight": weight, "bias": bias}), Replaced(norm, _rest(norm))]
    return found, f"{len(found) // 2} of {len(norms)} frozen BatchNorms are folded"


def _layer_before(norm: Any, traced: Trace) -> nn.Module | None:
    """The layer whose result goes into this norm and nowhere else; None if there is none that can be merged."""
    calls = traced.calls(norm)
    is_plain = type(norm) in _NORMS or is_batchnorm_with_activation(norm)
    if len(calls) != 1 or len(calls[0].takes) != 1 or not is_plain or _has_hooks(norm) or norm.running_mean is None:
        return None
    before = traced.steps[next(iter(calls[0].takes))]
    layer = before.module
    if not isinstance(layer, _LAYERS) or before.feeds != {calls[0].at} or len(traced.calls(layer)) != 1:
        return None
    kind: type[nn.Module] = next(kind for kind in type(layer).__mro__ if kind in _LAYERS)
    is_own = type(layer).forward is kind.forward and "forward" not in vars(layer) and "weight" in layer._parameters
    if not is_own or not _is_frozen(layer) or _has_hooks(layer) or not layer.weight.is_floating_point():
        return None
    return layer if isinstance(layer, nn.Linear) == _is_last_axis(norm, calls[0]) else None


def _is_last_axis(norm: nn.Module, call: Step) -> bool:
    return isinstance(norm, nn.BatchNorm1d) and len(call.shapes[0]) == 2


def _rest(norm: Any) -> Callable[[Tensor], Tensor]:
    """What is left of a BatchNorm without its normalisation."""
    if is_batchnorm_with_activation(norm):
        return lambda x: norm.act(norm.drop(x))
    return lambda x: x


def compiled_blocks(model: nn.Module, inputs: Any, watched: Watched) -> tuple[list[Replaced], str]:
    """Outermost frozen modules as compiled graphs, and how many that are.

    A module is exported first: the compiled graph then calls no module, whose calls are listened to in a pass.

    Raises:
        DataError: If torch cannot compile one.
    """
    calls = _calls_of(model, inputs)
    found: list[Replaced] = []
    failed: list[str] = []
    for name, block in _blocks(model, watched, calls):
        args, kwargs = calls[id(block)][0]
        try:
            graph = torch.export.export(block, args, kwargs, dynamic_shapes=_first_axes(block, args, kwargs))
        except Exception:  # a model that torch cannot export runs as it is written; the note says so
            failed.append(name)
            continue
        compiled = torch.compile(graph.module(check_guards=False).forward)
        found.append(Replaced(block, _in_default_stance(compiled)))
        try:
            found[-1].forward(*args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            raise DataError(
                what="The frozen part cannot be compiled.", where=f"{name}, frozen_pass='compile'",
                received=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}",
                do="leave 'compile' out of frozen_pass; on a CPU torch.compile needs a C++ compiler.",
            ) from error  # fmt: skip
    left = f", {', '.join(failed[:3])} as written" if failed else ""
    return found, f"{len(found)} frozen blocks are compiled{left}"


def _calls_of(model: nn.Module, inputs: Any) -> dict[int, list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """The arguments of every call of each module, by its id."""
    calls: dict[int, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.setdefault(id(module), []).append((args, kwargs))

    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in model.modules()]
    try:
        with kept_modes(model), kept_buffers(model), kept_generators(), torch.no_grad():
            model.eval()
            call_with_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _blocks(
    module: nn.Module, watched: Watched, calls: dict[int, Any], prefix: str = ""
) -> Generator[tuple[str, nn.Module]]:
    for key, child in module.named_children():
        name = f"{prefix}{key}"
        has_children = next(child.children(), None) is not None
        is_called_once = len(calls.get(id(child), [])) == 1
        if has_children and is_called_once and _is_frozen(child) and not watched.has_below(name):
            yield name, child
        else:
            yield from _blocks(child, watched, calls, f"{name}.")


def _first_axes(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The batch may have any size."""
    given = inspect.signature(block.forward).bind(*args, **kwargs).arguments
    count = next((own.shape[0] for own in given.values() if isinstance(own, Tensor) and own.dim()), 0)
    return {
        name: {0: torch.export.Dim.AUTO} if isinstance(own, Tensor) and own.dim() and own.shape[0] == count else None
        for name, own in given.items()
    }


def _in_default_stance(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled, although a pass lets compiled parts of the model run as they are written."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.compiler.set_stance("default"):
            return compiled(*args, **kwargs)

    return run


def _is_frozen(module: nn.Module) -> bool:
    """True if it has weights, and none of them trains."""
    own = [*module.parameters()]
    has_state = bool(own) or next(module.buffers(), None) is not None
    return has_state and not any(parameter.requires_grad for parameter in own)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
