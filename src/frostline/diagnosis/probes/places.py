"""Targets of every place of a sequence: padding that counts in the loss, and answers that stand in the input.

Legend: B samples of a batch, T places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.probes.loss_aim import class_axis
from frostline.diagnosis.rules.wiring_records import PlaceFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch

_FEWEST = 4  # places of a sequence
_SHIFTED = 0.99  # of the targets are the next input
_MOVED = 1e-3  # of the largest output
_LAST, _FEWEST_TARGETS = 8, 64  # batches, and targets of a place, of which it is asked what is learnt
_KNOWN, _UNKNOWN = 0.85, 0.95  # of the loss of the shares of the classes, at places that are learnt, and that are not
_ASKED, _FEWEST_KNOWN = (
    16,
    2,
)  # places that are changed, in so many rows; that must be known, beside others that are not
_SAME = 0.02  # relative deviation of what rows count


def facts_of_places(
    model: nn.Module, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]
) -> PlaceFacts | None:  # fmt: skip
    """None where the targets are not one class for each place of the input.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        data: Of (inputs of shape (B, T), classes of shape (B, T)); the first is asked, and what is learnt of the last.
        loss_fn: callable(output, target) -> scalar.
    """
    batch = data[0]
    target_BT = batch[1]
    if not isinstance(target_BT, Tensor) or target_BT.dtype != torch.long or target_BT.dim() != 2:
        return None
    words_BT = next((one for one in batches.leaves(batch[0]).values() if one.shape == target_BT.shape), None)
    if words_BT is None or words_BT.is_floating_point() or target_BT.shape[1] < _FEWEST:
        return None
    with evaluation(model):
        with torch.no_grad():
            output = batches.call(model, batch[0])
        padding, label = _padding(output, words_BT, target_BT, loss_fn)
        changes = _changes_before_the_end(model, batch[0], output, words_BT)
        is_next = _are_same(target_BT[:, :-1], words_BT[:, 1:])
        is_own = bool((target_BT >= 0).all()) and _are_same(target_BT, words_BT)
        ahead = 0 if is_next or is_own else _ahead(target_BT, words_BT)
        weight_BT = _weights(output, target_BT, loss_fn)
        unlearnt = _unlearnt(model, data[-_LAST:], weight_BT) if weight_BT is not None else None
        by_row = _by_row(weight_BT) if weight_BT is not None else 1.0
        return PlaceFacts(
            padding,
            label,
            is_next and changes is True,
            is_own and changes is False,
            ahead,
            unlearnt,
            by_row,
            *_reached(model, batch[0], output, target_BT, words_BT),
        )


def _reached(
    model: nn.Module, inputs: Any, output: Any, target_BT: Tensor, words_BT: Tensor
) -> tuple[tuple[int, int], tuple[int, int]]:  # fmt: skip
    """(places, of how many that were asked) whose input does not change their own output; no other one's."""
    axis = class_axis(output, target_BT) if isinstance(output, Tensor) and output.dim() == 3 else None
    if axis is None or not isinstance(inputs, Tensor):
        return (0, 1), (0, 1)
    words_BT, blind, alone, asked = words_BT[:_ASKED], 0, 0, 0
    before = _called(model, words_BT, axis)
    for at in range(0, words_BT.shape[1], max(1, words_BT.shape[1] // _ASKED)):
        others = words_BT.clone()
        others[:, at] = words_BT[:, at].roll(1, 0)
        if before is None or torch.equal(others, words_BT):
            continue
        after = _called(model, others, axis)
        if after is None:
            continue
        is_same_T = (before == after).all(2).all(0)
        is_own_T = torch.arange(len(is_same_T), device=is_same_T.device) == at
        asked, blind = asked + 1, blind + bool(is_same_T[at])
        alone += bool(is_same_T[~is_own_T].all())
    return ((blind, asked), (alone, asked)) if asked >= _FEWEST else ((0, 1), (0, 1))


def _called(model: nn.Module, words_BT: Tensor, axis: int) -> Tensor | None:
    """Outputs with the classes last; None of a model that takes no smaller batch."""
    seed_generators(0)
    try:
        with torch.no_grad():
            return batches.call(model, words_BT).movedim(axis, -1)
    except FOREIGN:
        return None


def _weights(output: Any, target_BT: Tensor, loss_fn: Callable[[Any, Any], Tensor]) -> Tensor | None:
    """How much each place counts in the loss: its slope where all classes are as likely. None if not known."""
    if not isinstance(output, Tensor) or output.dim() != 3 or not output.is_floating_point():
        return None
    axis = class_axis(output, target_BT)
    leaf = torch.zeros_like(output).requires_grad_()
    try:
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(loss_fn(leaf, target_BT), leaf, materialize_grads=True)
    except (*FOREIGN, DataError, RuntimeError):
        return None
    return None if axis is None else slope.norm(dim=axis)


def _by_row(weight_BT: Tensor) -> float:
    """Weight of a word of the shortest row, over one of the longest, where that is the ratio of their lengths."""
    count_B, total_B = (weight_BT > 0).sum(1), weight_BT.sum(1)
    known = count_B > 0
    if int(known.sum()) < _FEWEST:
        return 1.0
    count, total = count_B[known], total_B[known]
    is_same = float(total.std()) <= _SAME * float(total.mean())
    return float(count.max() / count.min()) if is_same else 1.0


def _unlearnt(model: nn.Module, data: Sequence[Batch], weight_BT: Tensor) -> tuple[int, int, float] | None:
    """(places, of how many that count, their share of the loss) whose targets are not known beyond their shares."""
    costs, levels = [], []
    is_counted = (weight_BT > 0).any(0)
    outputs, targets = [], []
    for inputs, target_BT in data:
        if target_BT.shape[1] != len(is_counted):
            return None
        with torch.no_grad():
            output = batches.call(model, inputs)
        axis = class_axis(output, target_BT)
        if axis is None:
            return None
        outputs.append(output.movedim(axis, -1).float().log_softmax(-1))
        targets.append(target_BT)
    answer_BTC, target_BT = torch.cat(outputs), torch.cat(targets)
    for at in is_counted.nonzero().flatten().tolist():
        known = target_BT[:, at] >= 0
        wanted = target_BT[known, at]
        if len(wanted) < _FEWEST_TARGETS:
            return None
        shares = torch.bincount(wanted).float() / len(wanted)
        levels.append(float(-(shares * shares.clamp_min(1e-12).log()).sum()))
        costs.append(float(-answer_BTC[known, at].gather(1, wanted[:, None]).mean()))
    is_known = [cost < _KNOWN * level for cost, level in zip(costs, levels, strict=True)]
    unknown = [cost for cost, level in zip(costs, levels, strict=True) if level > 0 and cost > _UNKNOWN * level]
    if sum(is_known) < _FEWEST_KNOWN or not sum(costs) > 0 or len(unknown) < _FEWEST:
        return None
    return len(unknown), len(costs), sum(unknown) / sum(costs)


def _ahead(target_BT: Tensor, words_BT: Tensor) -> int:
    """By how many places the targets are ahead of the inputs that they are, or behind; 0 where they are none."""
    for ahead in (2, -1, 3, -2):
        own, given = (
            (target_BT[:, :-ahead], words_BT[:, ahead:]) if ahead > 0 else (target_BT[:, -ahead:], words_BT[:, :ahead])
        )
        if own.shape[1] >= _FEWEST and _are_same(own, given):
            return ahead
    return 0


def _padding(
    output: Any, words_BT: Tensor, target_BT: Tensor, loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[float, int]:
    """(share of places that are padding and count in the loss, what stands for it)."""
    label, word = int(target_BT[:, -1].mode().values), int(words_BT[:, -1].mode().values)
    is_end_BT = (target_BT == label) & (words_BT == word)
    is_end_BT = is_end_BT.flip(1).long().cumprod(1).flip(1).bool()  # up to the end of the sequence
    is_rest = ~is_end_BT
    if label < 0 or not bool(is_end_BT.any()) or bool(((words_BT == word) & is_rest).any()):
        return 0.0, label  # the word is used elsewhere: it is a word
    return (float(is_end_BT.float().mean()), label) if _counts(output, is_end_BT, target_BT, loss_fn) else (0.0, label)


def _counts(output: Any, is_end_BT: Tensor, target_BT: Tensor, loss_fn: Callable[[Any, Any], Tensor]) -> bool:
    """Whether the loss has a gradient for the outputs at these places."""
    if not isinstance(output, Tensor) or output.dim() != 3 or not output.is_floating_point():
        return False
    leaf = output.detach().float().clone().requires_grad_()
    try:
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(loss_fn(leaf, target_BT), leaf, materialize_grads=True)
    except (*FOREIGN, DataError):
        return False
    ways = [one for one in (slope, slope.transpose(1, 2)) if one.shape[:2] == target_BT.shape]
    return bool(ways) and all(bool(slope_BTC.abs().sum(2)[is_end_BT].any()) for slope_BTC in ways)


def _are_same(target_BT: Tensor, words_BT: Tensor) -> bool:
    """Whether nearly all targets that count are these words."""
    return float(((target_BT == words_BT) | (target_BT < 0)).float().mean()) >= _SHIFTED


def _changes_before_the_end(model: nn.Module, inputs: Any, output: Any, words_BT: Tensor) -> bool | None:
    """Whether outputs of earlier places change with the last input; None where that cannot be asked."""
    if not isinstance(output, Tensor) or not isinstance(inputs, Tensor):
        return None
    others = words_BT.clone()
    others[:, -1] = words_BT.roll(1, 0)[:, 0]  # words that there are
    if not bool((others != words_BT).any()):
        return None
    seed_generators(0)
    with torch.no_grad():
        moved = batches.call(model, others)
    change = (moved - output).abs()
    count, least = words_BT.shape[1], _MOVED * output.abs().max()
    axes = [axis for axis in (1, 2) if change.dim() == 3 and change.shape[axis] == count]  # as many classes as places
    found = [bool(change.narrow(axis, 0, count - 1).max() > least) for axis in axes]
    return None if not found else all(found)
