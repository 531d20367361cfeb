"""Probes a loss with outputs made here: what it rewards is measured, whatever its name.

Legend: B batch, C classes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import kept_generators
from frostline.diagnosis.probes.output_range import (
    ANY,
    NAMES,
    SEVERAL,
    is_fixed,
    last_function,
    out_of_reach,
    range_of_last,
    shares_out,
)
from frostline.diagnosis.rules.loss_records import LossFacts

if TYPE_CHECKING:
    from collections.abc import Callable

_SURE = 20.0  # a logit that far from the others is a certain answer: exp(-20) is 2e-9
_CERTAIN = 40.0  # networks that have learnt by heart get there
_LEAST_COUNT = 0.1  # where a logarithm is taken of counts
_DEEP = 10.0  # by which a loss falls that falls without end
_PAIRED = 8  # rows of which all pairs are asked
_SQUARED = 3.0  # times the loss at twice the error: of a squared error it is 4, of an absolute one 2
_SAME = 1e-4  # relative difference of two losses that are the same but for rounding
_MANY = 0.25  # of the samples have several labels
_BELOW = 0.1  # of what lies between right and wrong probabilities


def probe_loss(loss_fn: Callable[[Any, Any], Tensor], output: Any, target: Any) -> LossFacts:
    """How a loss behaves, measured with a batch of real targets and made outputs.

    Args:
        loss_fn: callable(output, target) -> scalar.
        output: The model's output for the batch: its shape, dtype and range.
        target: The batch's targets.
    """
    with kept_generators():  # the model that trains draws from them
        return _probed(loss_fn, output, target)


def _probed(loss_fn: Callable[[Any, Any], Tensor], output: Any, target: Any) -> LossFacts:
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not output.is_floating_point():
        return LossFacts("unknown")
    if _ignores_target(loss_fn, output.detach(), target):
        return LossFacts("unknown")  # that of a generator, which a critic judges
    if is_fixed(output):
        return LossFacts("values", is_fixed=True)
    try:
        with torch.enable_grad():
            if target.dtype == torch.long and target.numel() == output.numel():
                return _by_number(output, target)
            if target.dtype == torch.long and output.dim() == 2 and target.shape == output.shape[:1]:
                return _classes(loss_fn, output.detach(), target, output)
            if target.is_floating_point() and target.shape == output.shape:
                return _values(loss_fn, output.detach(), target, output)
            if target.is_floating_point() and target.numel() == output.numel() and target.dim() and output.dim():
                wanted = target.reshape(output.shape).nan_to_num()
                shift, degree = _of_shifts(loss_fn, wanted, target.nan_to_num())
                pairs_all = _pairs_all(loss_fn, output.detach(), target)
                facts = LossFacts("values", pairs_all=pairs_all, follows_shift=shift, degree=degree)
                return replace(facts, **_reach(output, target))
    except (*FOREIGN, DataError):
        pass  # a loss that takes no answer but the model's own cannot be asked
    return LossFacts("unknown")


def _by_number(output: Tensor, target: Tensor) -> LossFacts:
    """Of labels by number that get one value each."""
    reach = _reach(output, target[target >= 0].to(output.dtype))
    return LossFacts("values", **reach) if reach["out_of_reach"] else LossFacts("unknown")


def _reach(output: Tensor, target: Tensor) -> dict[str, Any]:
    """What the last function of the model can give, and the share of targets that it cannot."""
    beyond, last = out_of_reach(output, target), NAMES.get(last_function(output), "")
    return {"out_of_reach": beyond, "reach": range_of_last(output), "last": last}


def _ignores_target(loss_fn: Callable[[Any, Any], Tensor], output: Tensor, target: Tensor) -> bool:
    """Whether real targets make no difference to a loss that the output makes one to."""
    if not target.is_floating_point() or not target.numel() or not bool(torch.isfinite(target).all()):
        return False
    own, others, moved = (
        _cost(loss_fn, answer, wanted)
        for answer, wanted in (
            (output, target),
            (output, target.flip(0) + 0.5),
            (output + 0.1 * torch.randn_like(output), target),
        )
    )
    return own == others and own != moved and math.isfinite(own) and math.isfinite(moved)


def _pairs_all(loss_fn: Callable[[Any, Any], Tensor], output: Tensor, target: Tensor) -> bool:
    """Whether every output is compared with every target, as (B, 1) and (B,) are without a reshape.

    Then the loss of some rows is the mean, or the sum, of the losses of all pairs of them.
    """
    few = min(len(output), len(target), _PAIRED)
    some, wanted = output[:few].float(), target[:few]
    with torch.no_grad():
        whole = float(loss_fn(some, wanted))
        pairs = [
            [float(loss_fn(some[at : at + 1], wanted[to : to + 1])) for to in range(few)] for at in range(few)
        ]  # fmt: skip
    own, every = sum(pairs[at][at] for at in range(few)), sum(map(sum, pairs))
    is_told_apart = not math.isclose(own / few, every / few**2, rel_tol=_SAME)
    return is_told_apart and any(math.isclose(whole, total, rel_tol=_SAME) for total in (every, every / few**2))


def _classes(
    loss_fn: Callable[[Any, Any], Tensor], output: Tensor, target: Tensor, made: Tensor
) -> LossFacts:  # fmt: skip
    output = output if output.dtype is torch.float64 else output.float()
    classes, wide = output.shape[1], output.dtype
    if classes < 2 or int(target.min()) < 0 or int(target.max()) >= classes:
        return LossFacts("unknown")
    right = F.one_hot(target, classes).to(wide)
    wrong = F.one_hot((target + 1) % classes, classes).to(wide)
    as_given = _range_of(output)

    def ask(answer: Tensor) -> tuple[float, float]:
        return _ask(lambda leaf, wanted: loss_fn(as_given(leaf), wanted), answer, target)

    none, slope_of_none = ask(torch.zeros_like(right))
    of_right = {size: ask(size * right) for size in (0.5, 1.0, 2.0, 4.0, _SURE, _CERTAIN, 2 * _CERTAIN)}
    of_wrong = {size: ask(size * wrong) for size in (_SURE, _CERTAIN)}
    sure_right, sure_wrong = of_right[_SURE][0], of_wrong[_SURE][0]
    if abs(sure_right - sure_wrong) <= _SAME * abs(sure_right) and not (
        _is_by_row(loss_fn, output, target) and _is_by_row(loss_fn, 2 * right, target)  # outputs at the start are alike
    ):
        return LossFacts("unknown")  # outputs are compared with each other: columns stand for no classes
    if math.isclose(of_right[0.5][0], sure_right, rel_tol=_SAME):
        return LossFacts("unknown")  # answers are brought to one size, and compared with weights in the loss
    _, slope_wrong = ask(_SURE * (2 * wrong - 1))
    near = min(of_right[size][0] for size in (0.5, 1.0, 2.0, 4.0, _SURE))
    is_finite = all(math.isfinite(value) for answers in (of_right, of_wrong) for pair in
                    (answers[_SURE], answers[_CERTAIN]) for value in pair)  # fmt: skip
    prefers_right = not is_finite or (near < none - 1e-6 * abs(none) and sure_right < sure_wrong)
    if not prefers_right and not _is_wrong_for_each(loss_fn, right, wrong, target):
        return LossFacts("unknown")  # the weights of the classes are in the loss
    lowest = [of_right[size][0] for size in (_CERTAIN, 2 * _CERTAIN)]
    start = max(of_right[0.5][1], slope_of_none, 1e-30)
    has_range = as_given is _as_probabilities
    reach = (0.0, 1.0) if has_range else range_of_last(made) if as_given is _as_logits else ANY
    stuck = _stuck_in_a_simplex(loss_fn, right, target) if has_range else _stuck(loss_fn, 2 * right - 1, target, reach)
    return LossFacts(
        "classes", last=NAMES.get(last_function(made), ""),
        prefers_right=prefers_right,
        slope_when_wrong=slope_wrong / start if math.isfinite(slope_wrong) and not has_range else 1.0,
        is_bounded=not (lowest[1] < lowest[0] - _DEEP and lowest[1] < none - _DEEP),
        is_finite=is_finite,
        stuck_share=stuck, reach=reach, is_floorless=has_range and _is_floorless(loss_fn, right, target),
    )  # fmt: skip


def _is_wrong_for_each(
    loss_fn: Callable[[Any, Any], Tensor], right: Tensor, wrong: Tensor, target: Tensor
) -> bool:  # fmt: skip
    """Whether a wrong output costs no more than the right one for every sample alone."""
    rows = range(min(len(target), _PAIRED))
    pairs = [
        [_cost(loss_fn, _SURE * answer[at : at + 1], target[at : at + 1]) for answer in (right, wrong)] for at in rows
    ]
    return not any(own < other for own, other in pairs if math.isfinite(own) and math.isfinite(other))


def _range_of(output: Tensor) -> Callable[[Tensor], Tensor]:
    """What turns free values into outputs as the model gives them: logits, log-probabilities or probabilities."""
    ones = output.new_ones(len(output))
    if torch.allclose(output.exp().sum(dim=1), ones, atol=1e-3):
        return _as_log_probabilities
    if bool((output >= 0).all()) and torch.allclose(output.sum(dim=1), ones, atol=1e-3):
        return _as_probabilities
    return _as_logits


def _as_logits(answer: Tensor) -> Tensor:
    return answer


def _as_log_probabilities(answer: Tensor) -> Tensor:
    return answer.log_softmax(dim=1)


def _as_probabilities(answer: Tensor) -> Tensor:
    return answer.softmax(dim=1)


def _is_by_row(loss_fn: Callable[[Any, Any], Tensor], output: Tensor, target: Tensor) -> bool:
    """True if the loss of a batch is the mean, or the sum, of the losses of its rows."""
    half = len(output) // 2
    if half == 0:
        return True
    with torch.no_grad():
        whole = float(loss_fn(output[: 2 * half], target[: 2 * half]))
        parts = [slice(half), slice(half, 2 * half)]
        total = sum(float(loss_fn(output[part], target[part])) for part in parts)
    return min(abs(whole - total), abs(2 * whole - total)) <= 1e-3 * abs(total)


def _values(loss_fn: Callable[[Any, Any], Tensor], output: Tensor, target: Tensor, made: Tensor) -> LossFacts:
    asked = target.isfinite()  # the loss may take no notice of the others
    known, wanted = target[asked], target.where(asked, 0.0)
    if not known.numel() or not math.isfinite(_ask(loss_fn, wanted, target)[0]):
        return LossFacts("unknown")
    sides = wanted.sign() if bool((known.abs() == 1).all()) else 2 * wanted - 1
    if bool(((known >= 0) & (known <= 1)).all()) or bool((known.abs() == 1).all()):
        return _labels(loss_fn, _SURE * sides.where(asked, 0.0), wanted, target, made)
    spread = float(known.std(correction=0)) or 1.0
    links = [(wanted, spread)]
    if bool((known >= 0).all()):  # counts and durations, of which a model may give the logarithm
        links.append((wanted.clamp_min(_LEAST_COUNT).log(), 1.0))
    sides = [_side(loss_fn, answer, unit, target) for answer, unit in links]
    if 1 not in sides and -1 not in sides:
        return LossFacts("unknown")  # ranks, correlations, hazards: answers stand for something else
    shift, degree = _of_shifts(loss_fn, wanted, target.where(asked, 0.0))
    return LossFacts("values", prefers_right=1 in sides, out_of_reach=out_of_reach(made, target),
                     follows_shift=shift and sides[0] == 1, degree=degree)  # fmt: skip


def _of_shifts(loss_fn: Callable[[Any, Any], Tensor], wanted: Tensor, target: Tensor) -> tuple[bool, float]:
    """(whether only the error counts, wherever the targets lie; the power of the error that the loss grows with)."""
    unit = float(target.std(correction=0)) or 1.0
    apart, further = _cost(loss_fn, wanted + unit, target), _cost(loss_fn, wanted + 2 * unit, target)
    moved = _cost(loss_fn, wanted + 2 * unit, target + unit)
    if not all(map(math.isfinite, (apart, further, moved))) or not 0 < apart < further:
        return False, 2.0
    return math.isclose(apart, moved, rel_tol=1e-2), 2.0 if further > _SQUARED * apart else 1.0


def _side(loss_fn: Callable[[Any, Any], Tensor], answer: Tensor, unit: float, target: Tensor) -> int:
    """1 if outputs cost more when all are moved up or down by a unit, -1 if they cost less, else 0."""
    exact, *moved = [_cost(loss_fn, answer + shift * unit, target) for shift in (0.0, -1.0, 1.0)]
    known = _finite(moved)
    if not known:
        return 0
    room = _SAME * max(abs(exact), *map(abs, known))
    return 1 if exact < min(known) else -1 if exact > max(known) + room else 0


def _labels(
    loss_fn: Callable[[Any, Any], Tensor], right: Tensor, wanted: Tensor, target: Tensor, made: Tensor
) -> LossFacts:
    """Of logits or values: a right output leans to the right side. Not all of these are in the domain of every loss."""
    of_right = _finite([_cost(loss_fn, answer, target) for answer in (right, wanted, 0.25 * right)])
    of_wrong = _finite([_cost(loss_fn, answer, target) for answer in (-right, wanted - right / _SURE)])
    if not of_right or not of_wrong:
        return LossFacts("unknown")
    known = target[target.isfinite()]
    prefers_right = min(of_right) < max(of_wrong)
    is_shared = made.dim() == 2 and _range_of(made.detach()) is not _as_logits
    if not prefers_right and (is_shared or _may_be_distances(made)):
        return LossFacts("unknown")  # log-probabilities; or a label of 1 may ask for a small distance
    reach, are_sides = range_of_last(made), bool(known.abs().min() == 1)
    is_probability = reach == (0.0, 1.0) and not are_sides
    if is_probability:
        stuck = _stuck_between(loss_fn, right, wanted, target)
    else:
        stuck = _stuck(loss_fn, right / _SURE, target, reach)
    if stuck and _is_floorless(loss_fn, right / _SURE, target):
        stuck = 0.0  # the range of the model is the only floor that this loss has
    return LossFacts(
        "values", last=NAMES.get(last_function(made), ""),
        ignores_shifts=not is_shared and _ignores_shifts(loss_fn, right / _SURE, target),
        wants_probabilities=_wants_probabilities(loss_fn, right, wanted, target, made),
        prefers_right=prefers_right, out_of_reach=out_of_reach(made, target), stuck_share=stuck, reach=reach,
        is_bounded=not are_sides or _is_bounded(loss_fn, right / _SURE, target),
        has_several=shares_out(made, target),
    )  # fmt: skip


def _ignores_shifts(loss_fn: Callable[[Any, Any], Tensor], toward: Tensor, target: Tensor) -> bool:
    """Whether rows have several true labels, and their loss stays where all logits of a row move together."""
    if target.dim() != 2 or target.shape[1] < 3 or not bool(((target == 0) | (target == 1)).all()):
        return False
    if float((target.sum(1) > SEVERAL).float().mean()) < _MANY:
        return False
    here, moved = (_cost(loss_fn, toward + shift, target) for shift in (0.0, 3.0))
    wrong = _cost(loss_fn, -toward, target)
    return wrong > here and math.isclose(here, moved, rel_tol=_SAME)


def _wants_probabilities(
    loss_fn: Callable[[Any, Any], Tensor], right: Tensor, wanted: Tensor, target: Tensor, made: Tensor
) -> bool:
    """Whether a loss is lowest at the labels themselves, falls below that beyond them, and the model gives logits."""
    output = made.detach()
    if last_function(made) in NAMES or bool(((output >= 0) & (output <= 1)).all()) or not bool((wanted >= 0).all()):
        return False
    exact, even, wrong = (_cost(loss_fn, answer, target) for answer in (wanted, 0.5 + 0 * wanted, 1 - wanted))
    twice, sure = _cost(loss_fn, 2 * wanted, target), _cost(loss_fn, right, target)
    if not all(map(math.isfinite, (exact, even, wrong, twice))) or not exact < even < wrong:
        return False
    return twice < exact - _BELOW * (wrong - exact) and not sure < exact


def _is_floorless(loss_fn: Callable[[Any, Any], Tensor], toward: Tensor, target: Tensor) -> bool:
    """True if values without a range would cost less and less: then a range must not be taken away."""
    near, far = (_cost(loss_fn, size * toward, target) for size in (_CERTAIN, 2 * _CERTAIN))
    return far < near - _DEEP


def _is_bounded(loss_fn: Callable[[Any, Any], Tensor], toward: Tensor, target: Tensor) -> bool:
    """False if surer outputs cost less without end on one side alone; a critic's do on both."""
    (near, far, wrong) = (_ask(loss_fn, size * toward, target)[0] for size in (_CERTAIN, 2 * _CERTAIN, -2 * _CERTAIN))
    return not far < near - _DEEP or math.isclose(far, -wrong, rel_tol=1e-2)


def _stuck(
    loss_fn: Callable[[Any, Any], Tensor], toward: Tensor, target: Tensor, reach: tuple[float, float]
) -> float:  # fmt: skip
    """The share of the loss that outputs within this reach cannot remove, and others would."""
    if reach == ANY:
        return 0.0
    sizes = (0.5, 1.0, 2.0, 4.0, _SURE)
    none = _ask(loss_fn, torch.zeros_like(toward), target)[0]
    near = min(_ask(loss_fn, size * toward, target)[0] for size in sizes)
    best = min(_ask(loss_fn, (size * toward).clamp(*reach), target)[0] for size in sizes)
    if not none > near or not all(map(math.isfinite, (none, near, best))):
        return 0.0
    return max(0.0, (best - near) / (none - near))


def _may_be_distances(made: Tensor) -> bool:
    """True for outputs that are never below 0, and no probabilities."""
    return bool((made >= 0).all()) and range_of_last(made) == ANY


def _finite(values: list[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _ask(loss_fn: Callable[[Any, Any], Tensor], answer: Tensor, target: Tensor) -> tuple[float, float]:
    """(loss, norm of its slope) at an output."""
    leaf = answer.detach().clone().requires_grad_()
    loss = loss_fn(leaf, target)
    (slope,) = torch.autograd.grad(loss, leaf, materialize_grads=True)
    return float(loss.detach()), float(slope.norm())


def _cost(loss_fn: Callable[[Any, Any], Tensor], answer: Tensor, target: Tensor) -> float:
    """The loss at an output; NaN where it does not take that."""
    try:
        return _ask(loss_fn, answer, target)[0]
    except (*FOREIGN, DataError):
        return math.nan


def _stuck_in_a_simplex(loss_fn: Callable[[Any, Any], Tensor], right: Tensor, target: Tensor) -> float:
    """Of a model that gives probabilities: the share of the loss that no probabilities can take off."""
    none, _ = _ask(loss_fn, torch.zeros_like(right), target)
    near = min(_ask(loss_fn, size * right, target)[0] for size in (0.5, 1.0, 2.0, 4.0, _SURE))
    best, _ = _ask(loss_fn, right, target)
    if not none > near or not all(map(math.isfinite, (none, near, best))):
        return 0.0  # the loss takes probabilities and nothing else
    return max(0.0, (best - near) / (none - near))


def _stuck_between(loss_fn: Callable[[Any, Any], Tensor], right: Tensor, wanted: Tensor, target: Tensor) -> float:
    """Of a model that gives values from 0 to 1 for labels: the share of the loss that not even the labels take off."""
    none, near, best = (_cost(loss_fn, answer, target) for answer in (torch.zeros_like(right), wanted, right))
    if not all(map(math.isfinite, (none, near, best))) or best < 0 <= near:
        return 0.0  # the loss takes values from 0 to 1 and nothing else
    best = min(near, best)
    return max(0.0, (near - best) / (none - best)) if none > best else 0.0
