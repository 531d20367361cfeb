"""The score of a model on held-out samples: its loss, and the share of correct outputs or of explained variance."""

from __future__ import annotations

import copy
import math
from collections.abc import MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import kept_generators, kept_modes, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

_ROWS = 16  # samples, whose mean answer stands for that of all
_SAME = 1e-6  # relative difference of losses that are the same but for rounding


@dataclass(frozen=True)
class Score:
    """Of a model in eval mode.

    Attributes:
        share: Of outputs that are correct; of real targets, the share of their variance that is explained. 0 where an
            output is not finite.
        loss: Mean over the batches; NaN where it is not finite.
        samples: The share of each sample, within -1 and 1, in the order of the data; where `is_of_loss`, the loss of
            each batch.
        skill: By which share the loss is below that of the constant-prediction baseline; None if not known.
        lead: By how much its share exceeds that of this baseline; None if not computed.
        is_of_loss: True if outputs and targets are of no kind that can be compared: the share is 1 / (1 + loss).
    """

    share: float
    loss: float
    samples: tuple[float, ...] = ()
    skill: float | None = None
    lead: float | None = None
    is_of_loss: bool = False

    def gain_over(self, other: Score) -> tuple[float, float]:
        """(gain in share, its standard error) over another model's score on the same samples.

        The error is that of a paired comparison: samples with equal outputs do not count. It shows how far the gain
        may be luck of which samples were held out, not luck of the training. Of losses, the gain is the share of the
        other's that is saved, whatever their unit.
        """
        gain = self.share - other.share
        if len(self.samples) != len(other.samples) or not self.samples:
            return gain, math.inf
        own_N, others_N = np.array(self.samples), np.array(other.samples)
        gains_N = own_N - others_N
        if self.is_of_loss and other.is_of_loss:
            unit = float(np.abs(others_N).mean()) or 1.0
            gains_N = (-gains_N / unit).clip(-1.0, 1.0)
            gain = float(gains_N.mean())
        return gain, float(gains_N.std(ddof=1)) / math.sqrt(len(gains_N)) if len(gains_N) > 1 else math.inf


@dataclass
class _Tally:
    kind: str = "values"  # of all targets: a batch alone may look like another
    right: float = 0.0
    answers: int = 0
    errors: float = 0.0
    values: int = 0
    total: float = 0.0
    squares: float = 0.0
    is_finite: bool = True
    hits: list[Tensor] = field(default_factory=list)  # share of right answers of each sample
    mistakes: list[Tensor] = field(default_factory=list)  # mean squared error of each sample

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

    def samples(self) -> tuple[float, ...]:
        """The share of each sample."""
        if not self.is_finite:
            return (0.0,) * sum(map(len, [*self.hits, *self.mistakes]))
        if self.hits:
            return tuple(torch.cat(self.hits).tolist())
        variance = (self.squares - self.total**2 / self.values) / self.values if self.values else 0.0
        if not self.mistakes or variance <= 0:
            return ()
        return tuple((1.0 - torch.cat(self.mistakes) / variance).clamp(-1.0, 1.0).tolist())


def score(
    model: nn.Module,
    data: Sequence[tuple[Any, Any]],
    loss_fn: Callable[[Any, Any], Tensor],
    *,
    train_mode: bool = False,
    compares: bool = False,
) -> Score:
    """Score a model on batches of (inputs, target); nothing of it changes.

    Args:
        model: Scored in eval mode.
        data: The batches.
        loss_fn: callable(output, target) -> scalar.
        train_mode: True scores it as it trains, BatchNorm with the statistics of each batch; the caller keeps buffers.
        compares: True also counts the correct outputs of the constant-prediction baseline.
    """
    kind = _kind_of([target for _, target in data])
    tally = _Tally(kind)
    losses: list[Tensor] = []
    flat, waiting = _Flat(loss_fn, _Tally(kind) if compares else None), list[_Answered]()
    with _asked(model, train_mode=train_mode):
        for inputs, target in data:
            output = batches.call(model, inputs)
            losses.append(_scalar(loss_fn(output, target)))
            waiting.append(_Answered(inputs, output, target, losses[-1]))
            if sum(num_rows(one.output, unknown=_ROWS) for one in waiting) >= _ROWS:
                flat.add(waiting)
                waiting = []
            _count(tally, output, target)
        flat.add(waiting)
    values = _read(losses)
    loss = sum(values) / len(values)
    share, samples = tally.share(), tally.samples()
    is_of_loss = share is None  # a loss that falls is all there is to go by
    if share is None:
        share, samples = sum(map(_of_loss, values)) / len(values), tuple(values)
    alone = flat.tally.share() if flat.tally is not None else None
    lead = None if alone is None else share - alone
    return Score(share, loss if math.isfinite(loss) else math.nan, samples, flat.skill(), lead, is_of_loss)


def mean_loss(
    model: nn.Module, data: Sequence[tuple[Any, Any]], loss_fn: Callable[[Any, Any], Tensor], *,
    train_mode: bool = False,
) -> float:  # fmt: skip
    """The loss of `score`, alone: nothing else is computed, a third of the time of a small network.

    Args:
        model: As for `score`.
        data: The batches.
        loss_fn: callable(output, target) -> scalar.
        train_mode: As for `score`.
    """
    with _asked(model, train_mode=train_mode):
        values = _read([_scalar(loss_fn(batches.call(model, inputs), target)) for inputs, target in data])
    loss = sum(values) / len(values)
    return loss if math.isfinite(loss) else math.nan


@contextmanager
def _asked(model: nn.Module, *, train_mode: bool) -> Generator[None]:
    with kept_modes(model), kept_generators(), torch.no_grad():
        seed_generators(0)  # dropout draws in train mode
        model.train(train_mode)
        yield


def _scalar(loss: Any) -> Tensor:
    return torch.as_tensor(loss).detach().float().mean()


def _read(losses: list[Tensor]) -> list[float]:
    return torch.stack(losses).tolist() if losses else [0.0]


@dataclass(frozen=True)
class _Answered:
    inputs: Any
    output: Any
    target: Any
    loss: Tensor


class _Flat:
    """The loss of the constant-prediction baseline: the mean target of some dozen samples, of several small batches."""

    def __init__(self, loss_fn: Callable[[Any, Any], Tensor], tally: _Tally | None) -> None:
        self._loss_fn, self.tally = loss_fn, tally
        self._losses: list[Tensor] = []
        self._own: list[Tensor] = []
        self._is_moved = self._is_refused = False

    def add(self, part: list[_Answered]) -> None:
        """Answers and targets of some batches."""
        outputs = [one.output for one in part]
        for one in part:
            same = one_answer(one.output, outputs, list(batches.leaves(one.inputs).values()))
            if same is None:
                continue  # the last batch, of one sample, may have lost its dimensions
            try:
                self._losses.append(_scalar(self._loss_fn(same, one.target)))
            except (*FOREIGN, DataError):  # a loss that takes no answer but such as the model gives
                self._is_refused = True
                continue
            self._own.append(one.loss)
            self._is_moved = self._is_moved or is_moved(one.output, same)
            if self.tally is not None:
                _count(self.tally, same, one.target)

    def skill(self) -> float | None:
        """The share of that cost that the model saves."""
        if not self._losses or self._is_refused:
            return None
        levels, own = torch.stack(self._losses), torch.stack(self._own)
        if self._is_moved and bool(((levels - own).abs() <= _SAME * own.abs()).all()):
            return None  # whatever is answered, the loss stays: it comes from elsewhere
        level, loss = float(levels.mean()), float(own.mean())
        return (level - loss) / abs(level) if math.isfinite(level) and math.isfinite(loss) and level else None


def _of_loss(loss: float) -> float:
    """From 1 for a loss of zero, or below, to 0."""
    return 1.0 / (1.0 + max(loss, 0.0)) if math.isfinite(loss) else 0.0


def _kind_of(targets: list[Any]) -> str:
    """What all targets together are: `one of several`, `labels`, `sides` or `values`. NaN marks what is ignored."""
    real = [target for target in targets if isinstance(target, Tensor) and target.is_floating_point() and target.dim()]
    if real and all(bool(((target == 0) | (target == 1) | target.isnan()).all()) for target in real):
        return "one of several" if all(map(_is_one_of_several, real)) else "labels"
    if real and all(bool(((target.abs() == 1) | target.isnan()).all()) for target in real):
        return "sides"
    return "values"


def _is_one_of_several(target: Tensor) -> bool:
    return target.dim() == 2 and target.shape[1] > 2 and bool((target.sum(1) == 1).all())


def _count(tally: _Tally, output: Any, target: Any) -> None:
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not output.is_floating_point():
        return
    output = output.float()
    tally.is_finite &= batches.are_finite(output)
    answers = _answers(tally.kind, output, target)
    if answers is not None:
        right, asked = answers
        tally.hits.append((right.flatten(1).sum(1) / asked.flatten(1).sum(1).clamp_min(1)).cpu())
        tally.right += float(right.sum())
        tally.answers += int(asked.sum())
    elif target.is_floating_point() and target.shape == output.shape and target.dim() > 0:
        _count_errors(tally, output, target.float())


def _count_errors(tally: _Tally, output: Tensor, target: Tensor) -> None:
    asked = ~target.isnan()
    wanted = target.where(asked, 0.0)
    errors = (output - wanted).square().where(asked, 0.0)
    tally.errors += float(errors.sum())
    tally.values += int(asked.sum())
    tally.total += float(wanted.sum())
    tally.squares += float(wanted.square().sum())
    rows = asked.reshape(len(target), -1).sum(1).clamp_min(1)
    tally.mistakes.append((errors.reshape(len(target), -1).sum(1) / rows).cpu())


def _answers(kind: str, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    """(is correct, is counted) by sample and place; None where targets are no classes. Below 0, a target is ignored.

    Targets that are one of several are classes as well: of ten, nine would be right where nothing is answered.
    """
    if kind == "one of several" and target.shape == output.shape:
        target = target.argmax(1)
    if target.dtype == torch.long and output.dim() >= 2 and target.dim() > 0:
        return _classes(output, target)
    if kind == "values" or not target.is_floating_point() or target.shape != output.shape or target.dim() == 0:
        return None
    are_probabilities = kind == "labels" and bool(((output >= 0) & (output <= 1)).all())
    right = (output > (0.5 if are_probabilities else 0.0)) == (target > (0.5 if kind == "labels" else 0.0))
    asked = ~target.isnan().reshape(len(target), -1)
    return (right.reshape(len(target), -1) & asked).float(), asked.float()


def _classes(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    if target.shape == (len(output), *output.shape[2:]):
        chosen = output.argmax(1)
    elif target.shape == output.shape[:-1]:
        chosen = output.argmax(-1)
    else:
        return None
    chosen, target = chosen.reshape(len(target), -1), target.reshape(len(target), -1)
    asked = target >= 0
    return ((chosen == target) & asked).float(), asked.float()


_MOVED = 1e-2  # of the largest answer


def one_answer(output: Any, others: list[Any], given: Sequence[Tensor] = ()) -> Any:
    """The mean output, repeated for every sample; None where outputs have no mean.

    Answers by name have none where one of them is a loss, or an input that the model hands on: what is compared with
    the target, or with the input, is not known then.

    Args:
        output: Answers to the batch that gets it: a tensor, or tensors by name.
        others: Of all batches that the mean is taken of, this one as well.
        given: The inputs of the batch.
    """
    if isinstance(output, Tensor):
        return _mean_of(output, others) if output.dim() and output.is_floating_point() else None
    if not isinstance(output, MutableMapping):
        return None
    named = cast("MutableMapping[str, Any]", output)
    floats = {name: value for name, value in named.items() if isinstance(value, Tensor) and value.is_floating_point()}
    has_input = len(floats) > 1 and any(_is_part_of(value, given) for value in floats.values())
    if not floats or has_input or not all(value.dim() for value in floats.values()):
        return None
    same = copy.copy(named)
    for name, value in floats.items():
        same[name] = _mean_of(value, [other.get(name) for other in others if isinstance(other, MutableMapping)])
    return same


def _is_part_of(value: Tensor, given: Sequence[Tensor]) -> bool:
    """True for an input that was handed on, reshaped or not."""
    return any(value is one or _share_memory(value, one) for one in given)


def _share_memory(value: Tensor, other: Tensor) -> bool:
    if value.layout != torch.strided or other.layout != torch.strided or value.device != other.device:
        return False
    return bool(value.numel()) and value.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _mean_of(values: Tensor, others: list[Any]) -> Tensor:
    shape = values.shape[1:]
    tensors = [other for other in others if isinstance(other, Tensor) and other.dim() == values.dim()]
    alike = [other for other in tensors if other.shape[1:] == shape]
    together = torch.cat(alike) if len(alike) > 1 else values
    return together.mean(0, keepdim=True).expand_as(values).clone()  # as answers are: losses may view or change them


def is_moved(output: Any, same: Any) -> bool:
    """True if some output is well away from the mean output."""
    if isinstance(output, Tensor):
        return bool((output - same).abs().max() > _MOVED * output.abs().max()) if output.numel() else False
    floats = [name for name, value in output.items() if isinstance(value, Tensor) and value.is_floating_point()]
    return any(is_moved(output[name], same[name]) for name in floats)


def num_rows(output: Any, *, unknown: int) -> int:
    """Samples that were answered; `unknown` where the output does not say."""
    tensors = [output] if isinstance(output, Tensor) else []
    if isinstance(output, MutableMapping):
        tensors = [value for value in cast("MutableMapping[str, Any]", output).values() if isinstance(value, Tensor)]
    return max((len(tensor) for tensor in tensors if tensor.dim()), default=unknown)
