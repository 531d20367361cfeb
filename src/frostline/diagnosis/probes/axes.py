"""Operations over a wrong axis, found in one forward pass: a reshape for a transpose, a softmax over the samples.

Legend: B samples of a batch.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from frostline.core import inputs as batches
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.rules.wiring_records import AxesFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RESHAPES = frozenset({"view", "reshape", "view_as", "reshape_as", "unflatten", "flatten"})
_MOST_AXES = 5  # of which every order is looked at
_SOFTMAXES = frozenset({"softmax", "log_softmax", "softmin"})
_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm", "mm"})
_TEMPORAL = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def facts_of_axes(
    model: nn.Module, inputs: Any, target: Any = None, loss_fn: Callable[[Any, Any], Tensor] | None = None
) -> AxesFacts:
    """What runs over an axis that can hardly be meant, when the model answers these inputs, and in its loss.

    A reshape that exchanges the sizes of two axes leaves the values where they were: a transpose moves them. A softmax
    or a recurrence over the axis of the samples lets them change each other. A softmax over one value is always 1. The
    weights of a softmax add up to 1 along its own axis, and a product that sums over another one weighs nothing. In a
    loss, rows of C values that are read from (B, C, H, W) as they lie hold pixels in place of classes.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        inputs: Of one batch.
        target: Of the same batch.
        loss_fn: callable(output, target) -> scalar; None looks at the model alone.
    """
    recorded = _RecordedCalls(batches.batch_size(inputs))
    hooks = [
        module.register_forward_pre_hook(recorded.layer(name, module), with_kwargs=True)
        for name, module in model.named_modules() if isinstance(module, _TEMPORAL)
    ]  # fmt: skip
    try:
        with evaluation(model), torch.no_grad(), recorded:
            output = batches.call(model, inputs)
            if loss_fn is not None and isinstance(output, Tensor) and getattr(target, "shape", None) != output.shape:
                recorded.output = output
                loss_fn(output, target)
    finally:
        for hook in hooks:
            hook.remove()
    return AxesFacts(
        tuple(dict.fromkeys(recorded.exchanged)), tuple(dict.fromkeys(recorded.over_samples)),
        tuple(dict.fromkeys(recorded.of_one)), tuple(dict.fromkeys(recorded.unweighed)),
        tuple(dict.fromkeys(recorded.scattered)),
    )  # fmt: skip


class _RecordedCalls(TorchFunctionMode):
    """Records reshapes and softmaxes."""

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self._size = size
        self.exchanged: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.over_samples: list[str] = []
        self.of_one: list[tuple[int, ...]] = []
        self.unweighed: list[tuple[tuple[int, ...], int, int]] = []
        self._weights: dict[int, tuple[Tensor, int]] = {}  # of a softmax, with its axis
        self.output: Tensor | None = None  # of the model, once its loss is taken
        self.scattered: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        given = args[0] if args else None
        if not isinstance(given, Tensor) or not isinstance(answer, Tensor):
            return answer
        if name in _RESHAPES and _is_exchanged(tuple(given.shape), tuple(answer.shape)):
            self.exchanged.append((tuple(given.shape), tuple(answer.shape)))
        if name in _RESHAPES and given is self.output and _is_scattered(tuple(given.shape), tuple(answer.shape)):
            self.scattered.append((tuple(given.shape), tuple(answer.shape)))
        if name in _SOFTMAXES and given.dim():
            dim = args[1] if len(args) > 1 else (kwargs or {}).get("dim")
            self._softmax(name, given, dim)
            if name == "softmax" and isinstance(dim, int):
                self._weights[id(answer)] = answer, dim % given.dim()
        if name == "dropout" and id(given) in self._weights:
            self._weights[id(answer)] = answer, self._weights[id(given)][1]
        if name in _PRODUCTS:
            self._product(args[:2])
        return answer

    def _product(self, pair: tuple[Any, ...]) -> None:
        """Of two matrices: the first is summed over its last axis, the second over the one before."""
        for values, summed in zip(pair, (-1, -2), strict=False):
            weights, axis = self._weights.get(id(values), (None, 0))
            if weights is not None and weights.dim() > 1 and axis != weights.dim() + summed:
                self.unweighed.append((tuple(weights.shape), axis, weights.dim() + summed))

    def _softmax(self, name: str, given: Tensor, dim: Any) -> None:
        if not isinstance(dim, int) or given.dim() < 2:
            return
        axis = dim % given.dim()
        if axis == 0 and given.shape[0] == self._size and given.shape[0] > 1:
            self.over_samples.append(f"{name} over axis 0")
        if given.shape[axis] == 1:
            self.of_one.append(tuple(given.shape))

    def layer(self, name: str, module: nn.Module) -> Callable[..., None]:
        """A hook that records a layer whose samples lie where it expects steps."""

        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = next((one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)), None)
            if given is None or given.dim() != 3 or _is_batch_first(module):
                return
            if given.shape[0] == self._size and given.shape[1] != self._size:
                self.over_samples.append(f"layer {name!r} ({type(module).__name__}, without batch_first)")

        return record


def _is_batch_first(module: nn.Module) -> bool:
    inner = getattr(module, "self_attn", module)
    return bool(getattr(inner, "batch_first", False))


def _is_scattered(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether (B, C, ...) was read as rows of C values, where places and not classes lie side by side."""
    if len(before) < 3 or len(after) != 2 or min(before) < 2:
        return False
    return after[1] == before[1] != before[-1] and after[0] * after[1] == math.prod(before)


def _is_exchanged(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape gives what a transpose would give, joined or split: (N, H, T, D) to (N, T, H * D), for one.

    Axes of one value are left aside. A part of the shape that is only joined, or only split, keeps its axes.
    """
    if max(len(before), len(after)) < 3 or 0 in before:
        return False
    return any(
        len(own) > 1 and len(other) > 1 and (_is_of_exchanged(own, other) or _is_of_exchanged(other, own))
        for own, other in _parts(before, after)
    )


def _parts(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The shortest runs of axes on both sides that hold the same values."""
    own, others = ([size for size in shape if size > 1] for shape in (before, after))
    while own and others:
        left, right = [own.pop(0)], [others.pop(0)]
        while math.prod(left) != math.prod(right):
            shorter, rest = (left, own) if math.prod(left) < math.prod(right) else (right, others)
            if not rest:
                return
            shorter.append(rest.pop(0))
        yield tuple(left), tuple(right)


def _is_of_exchanged(axes: tuple[int, ...], joined: tuple[int, ...]) -> bool:
    """Whether these axes, in another order, give the other shape by joining neighbours."""
    if len(axes) > _MOST_AXES:
        return False
    return any(order != axes and _joins(order, joined) for order in set(permutations(axes)))


def _joins(axes: tuple[int, ...], joined: tuple[int, ...]) -> bool:
    """Whether neighbours among these axes can be joined to the other shape."""
    left = list(axes)
    for size in joined:
        product = 1
        while left and product < size:
            product *= left.pop(0)
        if product != size:
            return False
    return not left
