"""Plain counterparts of a network and of a loss: what usually works on such inputs and targets.

Legend: N rows, T places, D values of a place, C channels, H W.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frostline.core import inputs as batches
from frostline.diagnosis.probes.loss_aim import as_given, class_axis
from frostline.diagnosis.probes.output_range import range_of_last

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch

_WIDTH, _EMBEDDED = 64, 32
_MOST_WORDS, _MOST_VALUES = 50_000, 65_536  # of an embedding's rows, and of an input


class PlainNetwork(nn.Module):
    """Two hidden layers over all values of a row; for targets of every place, convolutions or a recurrence.

    Args:
        data: Inputs, whose mean and deviation it takes; the first batch gives the shapes.
        output: Of the network that it stands for.

    Raises:
        ValueError: For inputs of another kind.
    """

    def __init__(self, data: Sequence[Batch], output: Tensor) -> None:
        super().__init__()
        named = batches.leaves(data[0][0])
        self._floats = [name for name, one in named.items() if one.is_floating_point()]
        self._words = [name for name, one in named.items() if not one.is_floating_point()]
        size = len(output)
        if not named or any(not one.dim() or len(one) != size or one.is_complex() for one in named.values()):
            raise ValueError("inputs without an axis of rows")
        if sum(one[0].numel() for one in named.values()) > _MOST_VALUES:
            raise ValueError("inputs of many values")
        self._shape = tuple(output.shape[1:])
        self._set_scales(data)
        first = next(iter(named.values()))
        self._is_of_places, self._is_last = _is_of_places(first, output, len(named)), False
        width = self._widths(named)
        if self._is_of_places and first.dim() == 4:
            self.body = nn.Sequential(
                nn.Conv2d(first.shape[1], _EMBEDDED, 3, padding=1), nn.ReLU(),
                nn.Conv2d(_EMBEDDED, _EMBEDDED, 3, padding=1), nn.ReLU(), nn.Conv2d(_EMBEDDED, output.shape[1], 1),
            )  # fmt: skip
        elif self._is_of_places:
            self.recurrence = nn.GRU(width, _WIDTH, batch_first=True)
            self._is_last = output.shape[1] == first.shape[1]
            self.body = nn.Linear(_WIDTH, output.shape[2 if self._is_last else 1] if output.dim() > 2 else 1)
        else:
            self.body = nn.Sequential(
                nn.Linear(width, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.ReLU(),
                nn.Linear(_WIDTH, math.prod(self._shape)),
            )  # fmt: skip

    def _set_scales(self, data: Sequence[Batch]) -> None:
        some = [batches.leaves(inputs) for inputs, _ in data]
        self._scales: dict[str, tuple[Tensor, Tensor]] = {}
        for name in self._floats:
            values = torch.cat([one[name].detach().float() for one in some if name in one])
            self._scales[name] = values.mean(0), values.std(0).clamp_min(1e-3 * float(values.std()) + 1e-12)
        words = [int(one[name].max()) + 1 for one in some for name in self._words if one[name].numel()]
        if words and (
            min(int(one[name].min()) for one in some for name in self._words) < 0 or max(words) > _MOST_WORDS
        ):
            raise ValueError("whole numbers that are no words")
        self.embedding = nn.Embedding(max(words), _EMBEDDED) if words else None

    def _widths(self, named: dict[str, Tensor]) -> int:
        if self._is_of_places:
            return _EMBEDDED if self._words else next(iter(named.values())).shape[-1]
        return sum(
            one[0].numel() * (_EMBEDDED if name in self._words else 1) + (_EMBEDDED if name in self._words else 0)
            for name, one in named.items()
        )

    def forward(self, inputs: Any) -> Tensor:
        """Of the shape that the other network gives.

        Args:
            inputs: Of a batch.
        """
        named = batches.leaves(inputs)
        parts = [((named[name].float() - mean) / scale).clamp(-10, 10) for name, (mean, scale) in self._scales.items()]
        words = [self.embedding(named[name]) for name in self._words] if self.embedding is not None else []
        if self._is_of_places:
            given = (words or parts)[0]
            if given.dim() == 4:
                return self.body(given)
            found = self.body(self.recurrence(given)[0])
            found = found if self._is_last else found.transpose(1, 2)
            return found.reshape(len(found), *self._shape)
        flat = [one.flatten(1) for one in (*parts, *words)]
        flat += [one.flatten(1, -2).mean(1) if one.dim() > 2 else one for one in words]
        found = self.body(torch.cat(flat, 1))
        return found.reshape(len(found), *self._shape)


def _is_of_places(first: Tensor, output: Tensor, count: int) -> bool:
    """Whether the output has a value for each place of the only input."""
    if count != 1:
        return False
    if first.is_floating_point() and first.dim() == 4:
        return output.dim() == 4 and output.shape[2:] == first.shape[2:]
    is_sequence = first.dim() == (3 if first.is_floating_point() else 2)
    return is_sequence and output.dim() in (2, 3) and first.shape[1] > 3 and (
        output.shape[1] == first.shape[1] or (output.dim() == 3 and output.shape[2] == first.shape[1])
    )  # fmt: skip


def usual_loss(output: Tensor, target: Any) -> tuple[str, Callable[[Any, Any], Tensor]] | None:
    """(its name, the loss) that is usual for such outputs and targets; None of other kinds.

    Args:
        output: Of a model, with its graph: whether it gives logits or probabilities.
        target: Of the same batch.
    """
    if not isinstance(target, Tensor) or not output.is_floating_point() or not target.dim():
        return None
    axis = class_axis(output, target) if target.dtype == torch.long else None
    if axis is not None and int(target.max()) < output.shape[axis]:
        kind = as_given(output.detach(), axis)
        return "cross_entropy", lambda answer, wanted: _cross_entropy(answer, wanted, axis, kind)
    if not target.is_floating_point() or target.shape != output.shape or not bool(torch.isfinite(target).all()):
        return None
    if bool(((target == 0) | (target == 1)).all()):
        if range_of_last(output) == (0.0, 1.0):
            return "binary_cross_entropy", lambda answer, wanted: F.binary_cross_entropy(answer.clamp(0, 1), wanted)
        return "binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits
    unit = float(target.float().var(correction=0)) or 1.0
    return "mse_loss", lambda answer, wanted: F.mse_loss(answer, wanted) / unit


def _cross_entropy(answer: Tensor, wanted: Tensor, axis: int, kind: str) -> Tensor:
    answer, flat = answer.movedim(axis, -1).reshape(-1, answer.shape[axis]), wanted.reshape(-1)
    if kind == "probabilities":
        answer = answer.clamp_min(1e-12).log()
    return F.cross_entropy(answer, flat.where(flat >= 0, -100))  # of log-probabilities it is what nll_loss gives


def shaped(network: nn.Module, output: Tensor, target: Any) -> nn.Module:
    """A network of logits with the last function of another: what a loss gets of it is of the same kind.

    Args:
        network: Gives values without a bound.
        output: Of the other.
        target: Of the same batch.
    """
    axis = class_axis(output, target) if isinstance(target, Tensor) and target.dtype == torch.long else None
    kind = as_given(output.detach(), axis) if axis is not None else "logits"
    if kind == "log-probabilities":
        return nn.Sequential(network, nn.LogSoftmax(axis))
    if kind == "probabilities":
        return nn.Sequential(network, nn.Softmax(axis))
    return nn.Sequential(network, nn.Sigmoid()) if range_of_last(output) == (0.0, 1.0) else network
