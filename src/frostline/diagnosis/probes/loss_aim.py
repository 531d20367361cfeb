"""Where a loss leads outputs that are free to move, whatever network would give them.

Legend: N rows, C classes or columns.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import kept_generators, seed_generators
from frostline.diagnosis.probes.output_range import ANY, MOST_COLUMNS, is_free, parts_of, range_of_last
from frostline.diagnosis.probes.outside import leaves_behind
from frostline.diagnosis.rules.loss_records import LossAim

if TYPE_CHECKING:
    from collections.abc import Callable

    Loss = Callable[[Any, Any], Tensor]

_MOST_VALUES = 4_000_000  # of an output
_STEPS, _MOST_S = 60, 0.5  # of a descent, and the seconds that it may take
_RATE_OF_LOGITS, _RATE_OF_EMBEDDINGS = 0.2, 0.05
_RATE_OF_VALUES = 0.02  # deviations of the targets
_NOISE = 0.3  # deviations, by which outputs are off at first
_FEWEST, _FEWEST_LEFT = 8, 4
_SAME = 1e-4  # relative difference of losses that are the same
_TURNS, _TURNED = 3, 1e-2  # turns that are tried, and the relative difference that rounding makes of distances
_NEARER = 0.9  # of what is left unexplained at first: outputs that end above were not brought nearer
_RANKED = 0.7  # correlation of ranks within rows; of outputs that do not follow their targets it is 0
_FLAT = 0.2  # of the wrong outputs
_SIDE = 0.3  # correlation of where outputs of labels go with these
_MOST_SLOPES, _DROWNS = 64, 100.0  # columns, and times the usual slope
_LIKE = 0.6  # correlation of where a column went with where another target lies
_AWAY = 10.0, 100.0, 1000.0  # steps down the slope
_FALLS, _STEADY = 30.0, 7.0  # what the last saves over the one before: of a loss that falls faster, or as fast


def facts_of_aim(loss_fn: Loss, output: Any, target: Any) -> LossAim:
    """What becomes of outputs that follow the slope of the loss, as far as it takes made outputs.

    Args:
        loss_fn: callable(output, target) -> scalar.
        output: The model's output for a batch.
        target: The batch's targets.
    """
    if sum(one.numel() for one in batches.leaves(output).values()) > _MOST_VALUES:
        return LossAim()  # a descent keeps four times as many
    if _ignores_target(loss_fn, output, target):
        return LossAim("ignored")  # of views that are compared with each other, of a generator
    found, given = LossAim(), batches.map_tensors(output, Tensor.detach)
    for ask in (_of_classes, _of_values, _of_labels, _of_rewards, _of_counted, _of_ends, _of_slopes):
        try:
            with torch.enable_grad(), kept_generators():
                seed_generators(0)
                found = ask(loss_fn, output if ask in (_of_labels, _of_ends) else given, target, found)
        except (*FOREIGN, DataError):
            continue  # a loss that takes no answer but the model's own cannot be asked
    return found


def _ignores_target(loss_fn: Loss, output: Any, target: Any) -> bool:
    """Whether the loss stays where the rows of the targets change places, and values."""
    try:
        with torch.no_grad(), kept_generators():
            seed_generators(0)
            drawn = batches.map_tensors(output, lambda one: torch.randn_like(one) if one.is_floating_point() else one)
            others = batches.map_tensors(
                _exchanged(target), lambda one: 0.9 - 0.8 * one if one.is_floating_point() else one
            )
            return float(loss_fn(drawn, _copied(target))) == float(loss_fn(drawn, others))
    except (*FOREIGN, DataError):
        return False


def _exchanged(target: Any) -> Any:
    """The targets of rows that have changed places, all in the same order."""
    generator = torch.Generator().manual_seed(0)
    order: dict[int, Tensor] = {}

    def exchange(one: Tensor) -> Tensor:
        if not one.dim():
            return one
        return one[order.setdefault(len(one), torch.randperm(len(one), generator=generator)).to(one.device)]

    return batches.map_tensors(target, exchange)


def _copied(target: Any) -> Any:
    return batches.map_tensors(target, Tensor.clone)  # a loss may change its target


def _slope(loss_fn: Loss, answer: Tensor, target: Any) -> tuple[float, Tensor]:
    leaf = answer.detach().clone().requires_grad_()
    loss = loss_fn(leaf, _copied(target))
    (slope,) = torch.autograd.grad(loss, leaf, materialize_grads=True, allow_unused=True)
    return float(loss.detach()), slope


def _descended(loss_fn: Loss, start: Tensor, target: Any, rate: float) -> Tensor | None:
    """Where Adam takes these outputs; None where it takes too long, or the loss is not finite."""
    free = start.detach().clone()
    optimizer, started = torch.optim.Adam([free], rate), time.thread_time()
    for _ in range(_STEPS):
        loss, free.grad = _slope(loss_fn, free, target)
        if not math.isfinite(loss) or time.thread_time() - started > _MOST_S:
            return None
        optimizer.step()
    return free


def _of_classes(loss_fn: Loss, output: Any, target: Any, found: LossAim) -> LossAim:
    """The share of right answers among outputs that began without one."""
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or target.dtype != torch.long:
        return found
    axis = class_axis(output, target)
    if axis is None or not output.is_floating_point() or int(target.max()) >= output.shape[axis]:
        return found
    if _is_turned(loss_fn, output, target, axis):
        return _of_embeddings(loss_fn, output, target, found)
    leaf = output.clone().requires_grad_()
    strangers = leaves_behind([loss_fn(leaf, _copied(target)).grad_fn], {id(leaf)})
    if strangers:
        return found  # the loss has weights of its own, such as a centre for each class
    kind = as_given(output, axis)

    def cost(answer: Tensor, wanted: Any) -> Tensor:
        shared = answer.log_softmax(axis) if kind == "log-probabilities" else answer.softmax(axis)
        return loss_fn(answer if kind == "logits" else shared, wanted)

    start = 0.1 * torch.randn_like(output)
    end = _descended(cost, start, target, _RATE_OF_LOGITS)
    if end is None:
        return found
    is_known = target >= 0
    is_asked = is_known & (end != start).any(axis)  # what the loss leaves out stays where it was
    if not bool(is_asked.any()):
        return found
    right = (end.argmax(axis) == target)[is_asked].float().mean()
    asked = float(is_asked.sum() / is_known.sum())
    return LossAim("classes", right=float(right), classes=len(target[is_asked].unique()), asked=asked)


def class_axis(output: Tensor, target: Tensor) -> int | None:
    """The axis of the output that holds the classes of these targets; None where shapes do not say it."""
    if output.dim() < 2 or not target.dim() or not target.numel() or int(target.max()) < 0:
        return None
    if target.shape == (len(output), *output.shape[2:]):
        return 1
    return output.dim() - 1 if target.shape == output.shape[:-1] else None


def _is_turned(loss_fn: Loss, output: Tensor, target: Tensor, axis: int) -> bool:
    """Whether the loss stays where outputs are turned as a whole, as one of distances and angles does."""
    size = output.shape[axis]
    for _ in range(_TURNS):
        noise = torch.randn_like(output)
        turn, _ = torch.linalg.qr(torch.randn(size, size))
        turned = (noise.movedim(axis, -1) @ turn.to(output)).movedim(-1, axis)
        here, there = (_slope(loss_fn, one, target)[0] for one in (noise, turned))
        if not math.isclose(here, there, rel_tol=_TURNED):
            return False
    return True


def _of_embeddings(loss_fn: Loss, output: Tensor, target: Tensor, found: LossAim) -> LossAim:
    """How far rows of one class are apart in the end, over how far those of several are: no column is a class."""
    end = _descended(loss_fn, torch.randn_like(output), target, _RATE_OF_EMBEDDINGS) if output.dim() == 2 else None
    if end is None:
        return found
    is_same = (target[:, None] == target) & ~torch.eye(len(target), dtype=torch.bool, device=target.device)
    is_other = target[:, None] != target
    if not bool(is_same.any()) or not bool(is_other.any()):
        return found
    apart = torch.cdist(end.float(), end.float())
    return LossAim("embeddings", spread=float(apart[is_same].mean() / apart[is_other].mean().clamp_min(1e-12)))


def _of_rewards(loss_fn: Loss, output: Any, target: Any, found: LossAim) -> LossAim:
    """How the slope at the action that was taken goes with its reward: it falls with it, so that outputs rise."""
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or output.dim() != 2 or target.dim() != 2:
        return found
    if target.shape[1] != 2 or len(target) < _FEWEST or not target.is_floating_point():
        return found
    for at in (0, 1):
        action_N, reward_N = target[:, at], target[:, 1 - at]
        is_action = bool(((action_N == action_N.round()) & (action_N >= 0) & (action_N < output.shape[1])).all())
        if not is_action or len(action_N.unique()) < 2 or len(reward_N.unique()) < 2:
            continue
        _, slope = _slope(loss_fn, torch.zeros_like(output), target)
        taken_N = slope.gather(1, action_N.long()[:, None])[:, 0]
        return replace(found, reward=_correlation(taken_N, reward_N.to(taken_N)))
    return found


def as_given(output: Tensor, axis: int) -> str:
    """What a model gives along the axis of the classes: `logits`, `log-probabilities` or `probabilities`."""
    ones = torch.ones_like(output.sum(axis))
    if torch.allclose(output.exp().sum(axis), ones, atol=1e-3):
        return "log-probabilities"
    is_shared = bool((output >= 0).all()) and torch.allclose(output.sum(axis), ones, atol=1e-3)
    return "probabilities" if is_shared else "logits"


def _of_values(loss_fn: Loss, output: Any, target: Any, found: LossAim) -> LossAim:
    """Columns that are not brought nearer to their targets, of a loss that stays where both move together."""
    if found.kind or not isinstance(output, Tensor) or not isinstance(target, Tensor) or len(target) < _FEWEST:
        return found
    if not target.is_floating_point() or target.shape != output.shape or not bool(torch.isfinite(target).all()):
        return found
    if len(target.unique()) <= 2:
        return found  # labels
    wanted, unit = target.float(), float(target.float().std(correction=0))
    if not unit > 0:
        return found
    drawn = wanted + unit * torch.randn_like(wanted)
    flat = _flat_share(loss_fn, wanted.to(output.dtype), unit, target)
    if flat > 0:
        return LossAim("values", flat=flat)
    here, moved = float(loss_fn(drawn, _copied(target))), float(loss_fn(drawn + unit, _copied(target) + unit))
    if not math.isclose(here, moved, rel_tol=_SAME):
        return found
    scale = wanted.std(0, correction=0, keepdim=True).clamp_min(1e-6 * unit)
    start_NC, wanted_NC = _columns(wanted + _NOISE * scale * torch.randn_like(wanted)), _columns(wanted / scale)

    def cost(answer_NC: Tensor, goal: Tensor) -> Tensor:
        return loss_fn((answer_NC.reshape(target.shape) * scale).to(output.dtype), goal)

    start_NC = _columns(start_NC.reshape(target.shape) / scale)
    end_NC = _descended(cost, start_NC, target, _RATE_OF_VALUES)
    if end_NC is None:
        return found
    before, after = (_unexplained(one, wanted_NC) for one in (start_NC, end_NC))
    lost = [at for at in range(len(before)) if before[at] > 0 and after[at] > _NEARER * before[at]]
    if 1 < len(before) == len(lost) and _ranks_rows(loss_fn, target):
        return found  # rewards of actions, relevance of documents
    instead = _instead(end_NC - start_NC, start_NC, wanted_NC, lost[0]) if lost else ""
    return LossAim("values", lost=tuple(lost), columns=wanted_NC.shape[1], instead=instead)


def _ranks_rows(loss_fn: Loss, target: Tensor) -> bool:
    """Whether outputs that begin anywhere come into the order of their row's targets, near them or not."""
    if target.dim() != 2:
        return False
    end = _descended(loss_fn, torch.randn_like(target), target, _RATE_OF_LOGITS)
    if end is None:
        return False
    end_N, wanted_N = (one.argsort(1).argsort(1).float().flatten() for one in (end, target))
    return _correlation(end_N, wanted_N) > _RANKED


def _flat_share(loss_fn: Loss, wanted: Tensor, unit: float, target: Tensor) -> float:
    """The share of outputs that are wrong and get no slope, of those that get one elsewhere; 0 in the usual loss."""
    shifts = (-3.0, -1.0, 1.0, 3.0)
    exact, *_ = _slope(loss_fn, wanted, target)
    asked = [_slope(loss_fn, wanted + shift * unit, target) for shift in shifts]
    if not all(exact < cost for cost, _ in asked):
        return 0.0  # outputs stand for something else
    has_slope = torch.stack([slope != 0 for _, slope in asked])
    is_counted = has_slope.any(0)
    share = float((~has_slope[:, is_counted]).float().mean()) if bool(is_counted.any()) else 0.0
    return share if share > _FLAT else 0.0


def _of_labels(loss_fn: Loss, output: Any, target: Any, found: LossAim) -> LossAim:
    """Columns of labels, 0 and 1, whose outputs are not led to the side of their label."""
    if found.kind or not isinstance(output, Tensor) or not isinstance(target, Tensor) or len(target) < _FEWEST:
        return found
    if not target.is_floating_point() or target.shape != output.shape or len(target.unique()) != 2:
        return found
    reach = range_of_last(output)
    noise = 0.1 * torch.randn_like(output)

    def cost(answer: Tensor, wanted: Any) -> Tensor:
        return loss_fn(answer.sigmoid() if reach == (0.0, 1.0) else answer, wanted)

    end = _descended(cost, noise, target, _RATE_OF_LOGITS)
    if end is None:
        return found
    moved_NC, wanted_NC = _columns(end - noise), _columns(target.float())
    sides = [_correlation(moved_NC[:, at], wanted_NC[:, at]) for at in range(wanted_NC.shape[1])]
    varies = [bool((wanted_NC[:, at] != wanted_NC[0, at]).any()) for at in range(wanted_NC.shape[1])]
    varies = [own and not _is_held(cost, noise, end, target, at) for at, own in enumerate(varies)]
    are_distances = bool((output >= 0).all()) and reach == ANY  # for which a label of 1 may ask to be small
    lost = [at for at, side in enumerate(sides) if varies[at] and (abs(side) if are_distances else side) < _SIDE]
    return LossAim("labels", lost=tuple(lost), columns=wanted_NC.shape[1])


def _is_held(cost: Loss, start: Tensor, end: Tensor, target: Tensor, at: int) -> bool:
    """Whether a column has no slope although the loss reads it: outputs are detached where they make a target."""
    if not bool((_columns(end) == _columns(start))[:, at].all()):
        return False
    other = start.clone()
    _columns(other)[:, at] += 1.0
    return float(cost(other, _copied(target))) != float(cost(start, _copied(target)))


def _columns(values: Tensor) -> Tensor:
    """(N, C) of few columns, or all values as one."""
    return values if values.dim() == 2 and values.shape[1] <= MOST_COLUMNS else values.reshape(-1, 1)


def _unexplained(values_NC: Tensor, wanted_NC: Tensor) -> list[float]:
    """One minus the squared correlation of each column with its target; 0 for targets that are all the same."""
    return [
        1 - _correlation(values_NC[:, at], wanted_NC[:, at]) ** 2 if float(wanted_NC[:, at].std()) > 1e-3 else 0.0
        for at in range(wanted_NC.shape[1])
    ]


def _correlation(one: Tensor, other: Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(one.norm() * other.norm())
    return float(one @ other) / size if size > 0 else 0.0


def _instead(moved_NC: Tensor, start_NC: Tensor, wanted_NC: Tensor, at: int) -> str:
    """What the outputs of a column were led to, in words; "" where that is not known."""
    others = {f"the target of column {to}": wanted_NC[:, to] for to in range(wanted_NC.shape[1]) if to != at}
    own = wanted_NC[:, at]
    others |= {"the targets of the rows in reversed order": own.flip(0), "the target of the row before": own.roll(1, 0)}
    others |= {"the target of the row after": own.roll(-1, 0), "the contrary of its target": -own}
    start = start_NC[:, at] - start_NC[:, at].mean()
    found = {name: _correlation(moved_NC[:, at], other - other.mean() - start) for name, other in others.items()}
    name = max(found, key=lambda one: found[one])
    return name if found[name] > _LIKE else ""


def _of_counted(loss_fn: Loss, output: Any, target: Any, found: LossAim) -> LossAim:
    """Whether the outputs that have a slope are those of one single target, and all others are left out."""
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not output.is_floating_point():
        return found
    axis = class_axis(output, target) if target.dtype == torch.long else None
    if (axis is None and target.shape != output.shape) or len(target.unique()) < 2:
        return found
    slopes = [_slope(loss_fn, size * torch.randn_like(output), target)[1] for size in (0.3, 1.0, 3.0)]
    is_counted = torch.stack([one != 0 for one in slopes]).any(0)
    is_counted = is_counted.any(axis) if axis is not None else is_counted
    chosen, left = target[is_counted], target[~is_counted]
    are_labels = bool(((target == 0) | (target == 1)).all()) and target.is_floating_point()
    if not len(chosen) or len(left) < _FEWEST_LEFT or len(chosen.unique()) > 1 or len(left.unique()) < 2 - are_labels:
        return found
    return replace(found, counted=(len(chosen) / target.numel(), float(chosen[0])))


def _of_ends(loss_fn: Loss, output: Any, target: Any, found: LossAim) -> LossAim:
    """The output along whose slope the loss falls without end: faster and faster, or wherever the targets lie."""
    parts, joined = parts_of(output)
    if len(parts) < 2 or (isinstance(output, Tensor) and not is_free(output)):
        return found
    leaves = {name: part.detach().clone().requires_grad_() for name, part in parts.items()}
    loss = loss_fn(joined(leaves), _copied(target))
    slopes = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True, allow_unused=True)
    exchanged = _exchanged(target)

    def cost(changed: dict[str, Tensor], wanted: Any = target) -> float:
        return float(loss_fn(joined(leaves | changed), _copied(wanted)).detach())

    here = cost({})
    is_same = math.isclose(here, cost({}, exchanged), rel_tol=_SAME)
    for (name, leaf), slope in zip(leaves.items(), slopes, strict=True):
        if not is_free(parts[name]) or not bool(slope.abs().max() > 0) or not math.isfinite(here):
            continue
        unit = slope.sign() * max(1.0, float(leaf.detach().abs().max()))
        ends = [{name: leaf.detach() - size * unit} for size in _AWAY]
        low, lower, lowest = (cost(end) for end in ends)
        ratio = math.inf if lowest == -math.inf else (lower - lowest) / max(low - lower, 1e-30)
        is_of_targets = math.isclose(lowest, cost(ends[-1], exchanged), rel_tol=_SAME) is is_same
        is_falling = low > lower > lowest and lowest < -abs(here)
        if is_falling and (ratio > _FALLS or (ratio > _STEADY and not is_of_targets)):
            return replace(found, unbounded=name)
    return found


def _of_slopes(loss_fn: Loss, output: Any, target: Any, found: LossAim) -> LossAim:
    """The column of an output that has by far the largest slope, where the others have one as well."""
    if not isinstance(output, Tensor) or output.dim() != 2 or not 1 < output.shape[1] <= _MOST_SLOPES:
        return found
    size_C = _slope(loss_fn, output, target)[1].norm(dim=0)
    largest, usual = float(size_C.max()), float(size_C.median())
    if not usual > 0 or not _DROWNS * usual < largest < math.inf:
        return found
    return replace(found, loudest=(int(size_C.argmax()), output.shape[1], largest / usual))
