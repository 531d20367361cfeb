"""What a loss counts: terms that outputs cannot change, the weights of classes, logits that are cosines.

All of it is asked with outputs that are made here, whatever the loss is called.

Legend: N rows, C classes, D values of an output, K values of a target.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import kept_generators, seed_generators
from frostline.diagnosis.rules.loss_records import LossTerms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch

_MOST_COLUMNS = 32  # of a target
_SAME = 1e-5  # relative difference of losses, or of gradients, that are the same
_CHANGED, _UNREAD = 1e-4, 1e-6  # of a loss: beyond, a column counts in it; within, it does not
_FEW = 16  # rows
_MOST_ROWS, _FEWEST_OF_CLASS = 1000, 4
_MOST_CLASSES = 50
_UNIT = 1e-3  # by which the length of a cosine's embedding may differ from 1
_STEPS, _RATE = 60, 0.1  # of the descent to the best outputs of length 1
_ROOM = 0.6  # of the loss of random outputs: a loss that can fall below has enough


def facts_of_terms(loss_fn: Callable[[Any, Any], Tensor], output: Any, data: Sequence[Batch]) -> LossTerms:
    """What the loss counts, as far as it takes made outputs.

    Args:
        loss_fn: callable(output, target) -> scalar.
        output: The model's output for the first batch.
        data: Batches, of whose targets the first are asked.
    """
    target = data[0][1]
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not output.is_floating_point():
        return LossTerms()
    made = output.detach()
    try:
        with torch.enable_grad(), kept_generators():
            if not _are_rows_apart(loss_fn, made, target):
                data = data[:1]  # all pairs, or triplets, of a thousand rows take gigabytes
            return LossTerms(
                columns=_columns(loss_fn, made, data), weights=_weights(loss_fn, made, data),
                logit_range=_logit_range(loss_fn, made, target),
            )  # fmt: skip
    except (*FOREIGN, DataError):
        return LossTerms()


def _slope(loss_fn: Callable[[Any, Any], Tensor], answer: Tensor, target: Tensor) -> tuple[float, Tensor]:
    leaf = answer.clone().requires_grad_()
    seed_generators(0)
    loss = loss_fn(leaf, target)
    (slope,) = torch.autograd.grad(loss, leaf, materialize_grads=True, allow_unused=True)
    return float(loss.detach()), slope


def _are_rows_apart(loss_fn: Callable[[Any, Any], Tensor], made: Tensor, target: Tensor) -> bool:
    """Whether the slope of a row stays where the output of another one changes, as of losses that compare no rows."""
    if made.dim() < 2 or len(made) != len(target):
        return True
    some, wanted = torch.randn(made[:_FEW].shape, generator=torch.Generator().manual_seed(0)).to(made), target[:_FEW]
    others = some.clone()
    others[0] = -others[0]
    (_, slope), (_, moved) = _slope(loss_fn, some, wanted), _slope(loss_fn, others, wanted)
    return bool((slope - moved)[1:].abs().max() <= _SAME * slope.abs().max())


def _pooled(data: Sequence[Batch]) -> Tensor | None:
    """The targets of several batches: a single one may hold no row of a rare kind."""
    targets: list[Tensor] = []
    for _, target in data:
        if not isinstance(target, Tensor) or not target.dim() or target.shape[1:] != data[0][1].shape[1:]:
            return None
        targets.append(target)
        if sum(map(len, targets)) >= _MOST_ROWS:
            break
    return torch.cat(targets)


def _columns(loss_fn: Callable[[Any, Any], Tensor], made: Tensor, data: Sequence[Batch]) -> tuple[int, int, int]:
    """Columns of the target that change the loss, and for no output its slope; that change neither; all of them."""
    target = _pooled(data)
    if target is None or target.dim() != 2 or len(target) < 2 or not 1 < target.shape[1] <= _MOST_COLUMNS:
        return 0, 0, 0
    if not bool(torch.isfinite(target).all()):
        return 0, 0, 0
    shape = (len(target), *made.shape[1:])
    answers = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(made) for seed in (0, 1)]
    before = [_slope(loss_fn, answer, target) for answer in answers]
    if not all(math.isfinite(loss) and bool(slope.abs().max() > 0) for loss, slope in before):
        return 0, 0, 0
    fixed = unused = 0
    for at in range(target.shape[1]):
        others = target.clone()
        others[:, at] = target[:, at].roll(1, 0)
        if torch.equal(others, target):  # one value in all rows: padding, say
            continue
        after = [_slope(loss_fn, answer, others) for answer in answers]
        pairs = list(zip(before, after, strict=True))
        is_counted = all(abs(new - old) > _CHANGED * abs(old) for (old, _), (new, _) in pairs)
        is_same = all(bool((new - old).abs().max() <= _SAME * old.abs().max()) for (_, old), (_, new) in pairs)
        is_read = any(abs(new - old) > _UNREAD * abs(old) for (old, _), (new, _) in pairs)
        fixed, unused = fixed + (is_counted and is_same), unused + (is_same and not is_read)
    return fixed, unused, target.shape[1]


def _weights(
    loss_fn: Callable[[Any, Any], Tensor], made: Tensor, data: Sequence[Batch]
) -> tuple[tuple[int, float, float], ...]:
    """(class, share of the rows, weight of a row over the largest) of classes, the rarest first.

    The weight of a row is the slope of the loss at an output of 0, which is the same for every class of a loss that
    weighs all alike.
    """
    target = _pooled(data)
    if target is None:
        return ()
    is_classes = target.dtype == torch.long and target.dim() == 1 and made.dim() == 2
    is_binary = (
        target.is_floating_point() and target.numel() == len(target) and target.shape == (len(target), *made.shape[1:])
    )
    kind_N = target.reshape(len(target), -1)[:, 0]
    kinds = kind_N.unique()
    if (
        not (is_classes or (is_binary and bool(((kinds == 0) | (kinds == 1)).all())))
        or not 1 < len(kinds) <= _MOST_CLASSES
    ):
        return ()
    if is_classes and not 0 <= int(kinds.min()) <= int(kinds.max()) < made.shape[1]:
        return ()
    _, slope = _slope(loss_fn, made.new_zeros(len(target), *made.shape[1:]), target)
    of_row_N = slope.reshape(len(target), -1).norm(dim=1)
    found = [(int(one), float((kind_N == one).float().mean()), float(of_row_N[kind_N == one].median())) for one in kinds
             if int((kind_N == one).sum()) >= _FEWEST_OF_CLASS]  # fmt: skip
    largest = max((weight for *_, weight in found), default=0.0)
    if not largest > 0 or not math.isfinite(largest):
        return ()
    return tuple(sorted(((one, share, weight / largest) for one, share, weight in found), key=lambda one: one[1]))


def _logit_range(loss_fn: Callable[[Any, Any], Tensor], made: Tensor, target: Tensor) -> float | None:
    """By how much the logits of right and wrong can differ, where outputs are embeddings of length 1; else None.

    A loss of n alternatives, at logits that differ by d, is log(1 + (n - 1) exp(-d)): n is known of outputs drawn at
    random, and d of the best ones.
    """
    if made.dim() < 2 or made.shape[-1] < 2 or not bool(((made.norm(dim=-1) - 1).abs() <= _UNIT).all()):
        return None
    free = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made).requires_grad_()
    optimizer = torch.optim.Adam([free], _RATE)
    losses: list[float] = []
    for _ in range(_STEPS):
        optimizer.zero_grad()
        loss = loss_fn(torch.nn.functional.normalize(free, dim=-1), target)
        losses.append(float(loss.detach()))
        if not loss.requires_grad or not math.isfinite(losses[-1]):
            return None
        loss.backward()
        optimizer.step()
    first, best = losses[0], min(losses)
    if not best > _ROOM * first > 0:
        return None
    return math.log(math.expm1(first) / math.expm1(best))
