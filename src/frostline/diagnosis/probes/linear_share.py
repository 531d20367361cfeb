"""How much of the targets a linear model reads of values: of the inputs, or of what passes a network.

Legend: N rows, D features, C columns of known answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.diagnosis.probes.classes import linear_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch

_MOST_ROWS, _FEWEST_ROWS = 1200, 240
_MOST_FEATURES = 384  # beyond, so many random sums of them: they keep what a linear model can read
_MOST_COLUMNS = 8192  # of which sums are made
_MOST_CLASSES, _MOST_WORDS = 20, 64
_SPREAD = 1e-6  # of the values at a place: below, they are the same for all rows


def chosen_rows(data: Sequence[Batch]) -> list[Batch]:
    """The first batches, of enough rows for a linear model.

    Args:
        data: Batches of (inputs, target).
    """
    found: list[Batch] = []
    count = 0
    for inputs, target in data:
        if count >= _MOST_ROWS or not isinstance(target, Tensor) or not target.dim():
            break
        found.append((inputs, target))
        count += len(target)
    return found


def known_answers(chosen: Sequence[Batch]) -> Tensor | None:
    """A column for each class, or the number; None of other targets, or of few rows.

    Args:
        chosen: Batches of (inputs, target).
    """
    targets = [target.detach().cpu() for _, target in chosen]
    if sum(map(len, targets)) < _FEWEST_ROWS or any(one.numel() != len(one) for one in targets):
        return None
    target_N = torch.cat([one.reshape(-1) for one in targets])
    if target_N.is_floating_point():
        is_known = bool(torch.isfinite(target_N).all()) and len(target_N.unique()) > 1
        return target_N[:, None].double() if is_known else None
    if int(target_N.min()) < 0 or not 1 < int(target_N.max()) + 1 <= _MOST_CLASSES:
        return None
    return torch.nn.functional.one_hot(target_N.long()).double()


@torch.no_grad()
def linear_share(values_ND: Tensor, known_NC: Tensor) -> float:
    """What a linear model of one half reads of the other, of what the constant-prediction baseline leaves; 0 to 1.

    Args:
        values_ND: What is read.
        known_NC: Known answers, of the same rows.
    """
    half = len(known_NC) // 2
    if not bool(torch.isfinite(values_ND).all()) or float(values_ND.std(0).max()) <= _SPREAD:
        return 0.0
    answers, right = linear_answers(values_ND[:half], known_NC[:half], values_ND[half:]), known_NC[half:]
    if known_NC.shape[1] > 1:
        share = float((answers.argmax(1) == right.argmax(1)).double().mean())
        least = float(right.mean(0).max())
        return max(0.0, (share - least) / max(1e-9, 1 - least))
    return max(0.0, float(1 - (answers - right).square().mean() / right.var(correction=0).clamp_min(1e-12)))


def readable_inputs(chosen: Sequence[Batch]) -> Tensor | None:
    """Values of each row side by side; None where there are none.

    Args:
        chosen: Batches of (inputs, target).
    """
    return joined_rows([_readable(inputs) for inputs, _ in chosen])


def _readable(inputs: Any) -> Tensor | None:
    """Values of each row side by side; words as one column for each word and place."""
    size = batches.batch_size(inputs)
    found: list[Tensor] = []
    for tensor in batches.leaves(inputs).values():
        if not tensor.dim() or len(tensor) != size:
            continue
        if tensor.is_floating_point():
            found.append(features(tensor))
        elif int(tensor.min()) >= 0 and int(tensor.max()) < _MOST_WORDS:
            found.append(features(torch.nn.functional.one_hot(tensor.long(), _MOST_WORDS).float()))
    return torch.cat(found, 1) if found else None


def features(tensor: Tensor) -> Tensor:
    """The values of each row, or so many random sums of them.

    Args:
        tensor: With an axis of rows.
    """
    flat_ND = tensor.detach().reshape(len(tensor), -1).cpu().double()
    if flat_ND.shape[1] <= _MOST_FEATURES:
        return flat_ND
    generator = torch.Generator().manual_seed(flat_ND.shape[1])
    if flat_ND.shape[1] > _MOST_COLUMNS:
        flat_ND = flat_ND[:, torch.randperm(flat_ND.shape[1], generator=generator)[:_MOST_COLUMNS]]
    signs = 1.0 - 2.0 * torch.randint(2, (flat_ND.shape[1],), generator=generator)
    at = torch.randint(_MOST_FEATURES, (flat_ND.shape[1],), generator=generator)
    return flat_ND.new_zeros(len(flat_ND), _MOST_FEATURES).index_add_(1, at, flat_ND * signs)


def joined_rows(parts: Sequence[Tensor | None]) -> Tensor | None:
    """All rows; None where a part is not known, or has other features.

    Args:
        parts: Of some batches.
    """
    known = [part for part in parts if part is not None]
    is_whole = len(known) == len(parts) and len({part.shape[1] for part in known}) == 1
    return torch.cat(known) if is_whole else None
