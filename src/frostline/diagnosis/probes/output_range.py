"""What the last function of a model can give: a sigmoid values from 0 to 1, a softmax shares of a whole."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches

if TYPE_CHECKING:
    from collections.abc import Callable

ANY = (-math.inf, math.inf)
MOST_COLUMNS = 16  # of an output that are looked at one by one
_SAME = 1e-3  # of a sum, or a norm
SEVERAL = 1.5  # labels of a sample, together
_SHAPING = frozenset({"SqueezeBackward0", "SqueezeBackward1", "UnsqueezeBackward0", "ViewBackward0",
                      "UnsafeViewBackward0", "TransposeBackward0", "PermuteBackward0"})  # fmt: skip
NAMES = {
    "SigmoidBackward0": "sigmoid",
    "SoftmaxBackward0": "softmax",
    "TanhBackward0": "tanh",
    "ReluBackward0": "relu",
}


def is_fixed(made: Tensor) -> bool:
    """Whether the last function is a softmax over one value, which is 1 (its logarithm 0) for any weights."""
    certain = {"SoftmaxBackward0": 1.0, "LogSoftmaxBackward0": 0.0}.get(last_function(made))
    return certain is not None and made.numel() > 0 and bool((made.detach() == certain).all())


def range_of_last(made: Tensor) -> tuple[float, float]:
    """What the last function of the model can give."""
    return {
        "SigmoidBackward0": (0.0, 1.0), "SoftmaxBackward0": (0.0, 1.0), "TanhBackward0": (-1.0, 1.0),
        "ReluBackward0": (0.0, math.inf),
    }.get(last_function(made), ANY)  # fmt: skip


def last_function(made: Tensor) -> str:
    """Its name in autograd; what only gives another shape does not count."""
    function = made.grad_fn
    while function is not None and type(function).__name__ in _SHAPING:
        function = function.next_functions[0][0]
    return type(function).__name__


def shares_out(made: Tensor, target: Tensor) -> bool:
    """Whether the model gives shares of a whole, for labels by name."""
    return last_function(made) == "SoftmaxBackward0" and target.dim() == 2


def is_free(made: Tensor) -> bool:
    """Whether single values can move without bound: nothing bounds them, no softmax or norm ties them together.

    Args:
        made: An output; one without an axis is a term of the loss that the model has computed.
    """
    if not made.dim() or range_of_last(made) != ANY:
        return False
    given = made.detach().double()
    for axis in range(1, given.dim()):
        sums = [given.exp().sum(axis), given.square().sum(axis), given.sum(axis) if bool((given >= 0).all()) else None]
        if given.shape[axis] > 1 and any(one is not None and _are_ones(one) for one in sums):
            return False
    return True


def _are_ones(values: Tensor) -> bool:
    return bool(((values - 1).abs() < _SAME).all())


def out_of_reach(made: Tensor, target: Tensor) -> float:
    """Share of finite targets that the last function of the model cannot give; of samples, if it shares out a whole."""
    if shares_out(made, target):
        return float((target.nan_to_num().sum(1) > SEVERAL).float().mean())
    low, high = range_of_last(made)
    known = target[target.isfinite()]
    return float(((known < low) | (known > high)).float().mean())


def parts_of(output: Any) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], Any]]:
    """The float outputs by name, or the columns of a single one; and what makes an output of them again.

    Args:
        output: Of a model.
    """
    if isinstance(output, Tensor):
        if output.dim() != 2 or output.shape[1] > MOST_COLUMNS or not output.is_floating_point():
            return {}, lambda _: output
        names = [f"column {at}" for at in range(output.shape[1])]
        return dict(zip(names, output.unbind(1), strict=True)), lambda one: torch.stack([one[n] for n in names], 1)
    named = batches.leaves(output)
    floats = {name: one for name, one in named.items() if one.is_floating_point() and one.numel()}
    names = {id(one): name for name, one in floats.items()}
    return floats, lambda values: batches.map_tensors(
        output, lambda one: values[names[id(one)]] if id(one) in names else one
    )
