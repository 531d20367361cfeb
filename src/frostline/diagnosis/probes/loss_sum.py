"""The terms that a loss is a sum of, of one pass: what each is, its gradient, and where it stands in the code."""

from __future__ import annotations

import linecache
import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from frostline.core import inputs as batches
from frostline.core.restore import seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.experiments.batches import Batch

_SUMS = frozenset({"AddBackward0", "SubBackward0"})
# What a sum goes through on its way to a scalar, one operand at a time.
_LINEAR = frozenset({
    "MeanBackward0", "MeanBackward1", "SumBackward0", "SumBackward1", "NegBackward0", "MulBackward0", "DivBackward0",
    "StackBackward0", "CatBackward0", "SqueezeBackward0", "SqueezeBackward1", "UnsqueezeBackward0", "ViewBackward0",
    "UnsafeViewBackward0", "ReshapeAliasBackward0", "ToCopyBackward0", "ExpandBackward0", "SelectBackward0",
})  # fmt: skip
_MOST_TERMS = 8
_SAME = 1e-3  # relative difference of the loss and the sum of its terms
_WIDTH = 72  # of a line of code
_OWN = ("torch", "frostline")  # packages whose frames are not of the loss


@dataclass
class _Made:
    """A tensor that a call gave."""

    tensor: Tensor
    name: str
    constants: list[float] = field(default_factory=list)


class _Calls(TorchFunctionMode):
    """Remembers what the calls within a loss give, by their function of autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[Any, _Made] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call it, and remember tensors that have a gradient."""
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(one, Tensor) and one.grad_fn is not None and one.grad_fn not in self.made:
                constants = [float(value) for value in args if _is_constant(value)]
                self.made[one.grad_fn] = _Made(one, _name_of(func), constants)
        return result


def _is_constant(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.requires_grad and not value.is_complex()
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _name_of(func: Any) -> str:
    """The function's name, and the line of code that calls it."""
    name = str(getattr(func, "__name__", "")).strip("_") or "a term"
    frame = sys._getframe(2)
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in _OWN:
        frame = frame.f_back
    if frame is None:
        return f"`{name}`"
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    shown = line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."
    return f"`{name}` in line {frame.f_lineno}" + (f" (`{shown}`)" if shown else "")


@dataclass(frozen=True)
class Term:
    """A summand of one pass: with its gradient, None where that is not asked; a constant has none."""

    name: str
    value: float
    gradient: Tensor | None = None
    is_constant: bool = False


def terms_of(
    model: nn.Module, weights: list[nn.Parameter], batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> list[Term]:
    """Of one pass, in the order of the sum; none where their sum is not the loss."""
    seed_generators(0)
    calls = _Calls()
    with calls:  # the model as well: it may give the loss itself
        output = batches.call(model, batch[0])
        loss = loss_fn(output, batch[1])
    ends = {one.grad_fn for one in batches.leaves(output).values() if one.grad_fn is not None and one.numel() > 1}
    if not loss.requires_grad or loss.grad_fn not in calls.made:
        return []
    constants: list[float] = []
    nodes = list(dict.fromkeys(_split(loss.grad_fn, calls.made, ends, constants)))
    if not 1 < len(nodes) + len(constants) <= _MOST_TERMS:
        return []
    tensors = [calls.made[node].tensor for node in nodes]
    factors = torch.autograd.grad(loss, tensors, retain_graph=True)
    found: list[Term] = []
    for node, tensor, factor in zip(nodes, tensors, factors, strict=True):
        value = (factor * tensor).sum()
        gradient = None
        if weights:
            parts = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
            gradient = torch.cat([part.detach().flatten().float() for part in parts])
        found.append(Term(_name_of_term(node, calls.made), float(value.detach()), gradient))
    found += [Term(calls.made[loss.grad_fn].name, value, is_constant=True) for value in constants]
    total = sum(one.value for one in found)
    size = max(abs(one.value) for one in found)
    is_sum = math.isclose(total, float(loss.detach()), rel_tol=_SAME, abs_tol=_SAME * size)
    return found if is_sum and math.isfinite(total) else []


def _split(node: Any, made: dict[Any, _Made], ends: set[Any], constants: list[float]) -> list[Any]:
    """The functions of autograd whose results are the terms of this one's; numbers that are added are kept apart."""
    below = [one for one, _ in node.next_functions if one is not None]
    name = type(node).__name__
    if node in ends or not below or not all(one in made for one in below):
        return [node]
    if name in _SUMS:
        if len(below) < 2:
            if made[node].tensor.numel() > 1:
                return [node]
            sign = -1.0 if name == "SubBackward0" else 1.0
            constants += [sign * one for one in made[node].constants[-1:]]
        return [found for one in below for found in _split(one, made, ends, constants)]
    if name in _LINEAR and (len(below) == 1 or name in {"StackBackward0", "CatBackward0"}):
        inner: list[float] = []
        found = [leaf for one in below for leaf in _split(one, made, ends, inner)]
        return found if len(found) > 1 and not inner else [node]
    return [node]


def _name_of_term(node: Any, made: dict[Any, _Made]) -> str:
    """The name of what a term comes from, without the factors and means around it."""
    while type(node).__name__ in _LINEAR:
        below = [one for one, _ in node.next_functions if one is not None]
        if len(below) != 1 or below[0] not in made:
            break
        (node,) = below
    return made[node].name
