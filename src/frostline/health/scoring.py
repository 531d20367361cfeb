"""How good a model's answers are, whatever its loss: from 0 to 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import kept_generators, kept_modes, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Score:
    """Of a model in eval mode.

    Attributes:
        share: Of answers that are right; of real targets, the share of their variance that is explained. 0 where an
            output is not finite.
        loss: Mean over the batches; NaN where it is not finite.
    """

    share: float
    loss: float


@dataclass
class _Tally:
    right: float = 0.0
    answers: int = 0
    errors: float = 0.0
    values: int = 0
    total: float = 0.0
    squares: float = 0.0
    is_finite: bool = True

    def share(self) -> float | None:
        """None if targets and outputs were of no kind that can be compared."""
        if not self.is_finite:
            return 0.0
        if self.answers:
            return self.right / self.answers
        if self.values:
            variance = self.squares - self.total**2 / self.values
            return max(0.0, 1.0 - self.errors / variance) if variance > 0 else 0.0
        return None


def score(
    model: nn.Module,
    data: Sequence[tuple[Any, Any]],
    loss_fn: Callable[[Any, Any], Tensor],
    *,
    train_mode: bool = False,
) -> Score:
    """Score a model on batches of (inputs, target); nothing of it changes.

    Args:
        model: Scored in eval mode.
        data: The batches.
        loss_fn: callable(output, target) -> scalar.
        train_mode: True scores it as it trains, BatchNorm with the statistics of each batch; the caller keeps buffers.
    """
    tally = _Tally()
    losses: list[float] = []
    with kept_modes(model), kept_generators(), torch.no_grad():
        seed_generators(0)  # dropout draws in train mode
        model.train(train_mode)
        for inputs, target in data:
            output = batches.call(model, inputs)
            losses.append(float(loss_fn(output, target)))
            _count(tally, output, target)
    loss = sum(losses) / max(len(losses), 1)
    share = tally.share()
    if share is None:  # a loss that falls is all there is to go by
        share = 1.0 / (1.0 + max(loss, 0.0)) if math.isfinite(loss) else 0.0
    return Score(share, loss if math.isfinite(loss) else math.nan)


def _count(tally: _Tally, output: Any, target: Any) -> None:
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not output.is_floating_point():
        return
    output = output.float()
    tally.is_finite &= bool(torch.isfinite(output).all())
    if target.dtype == torch.long and output.dim() >= 2 and target.shape == (len(output), *output.shape[2:]):
        tally.right += float((output.argmax(1) == target).sum())
        tally.answers += target.numel()
    elif target.is_floating_point() and target.shape == output.shape:
        if bool(((target == 0) | (target == 1)).all()):
            are_probabilities = bool(((output >= 0) & (output <= 1)).all())
            tally.right += float(((output > (0.5 if are_probabilities else 0.0)) == (target > 0.5)).sum())
            tally.answers += target.numel()
        else:
            tally.errors += float((output - target).square().sum())
            tally.values += target.numel()
            tally.total += float(target.sum())
            tally.squares += float(target.square().sum())
