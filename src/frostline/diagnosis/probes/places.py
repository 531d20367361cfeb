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
from frostline.diagnosis.rules.wiring_records import PlaceFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.experiments.batches import Batch

_FEWEST = 4  # places of a sequence
_SHIFTED = 0.99  # of the targets are the next input
_MOVED = 1e-3  # of the largest output


def facts_of_places(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> PlaceFacts | None:
    """None where the targets are not one class for each place of the input.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        batch: (inputs of shape (B, T), classes of shape (B, T)).
        loss_fn: callable(output, target) -> scalar.
    """
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
        return PlaceFacts(padding, label, is_next and changes is True, is_own and changes is False, ahead)


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
