"""The loss of padded batches: it must not read outputs at padded places, where cached features hold nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import DataError, SplitError
from frostline.core.padding import Padding, pad_rows
from frostline.recipes.model_precision import precision_of
from frostline.training import first_outputs, in_dtype, is_stateless, loss_of, make_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from frostline.splitting import Split

_TOLERANCE = 1e-4  # relative: kernels differ by batch shape, and a loss that reads padded places is off by far more
_COMPARED = 8  # samples, from the first to the last: the first ones of sorted data have one length


def check_padded_loss(model: nn.Module, split: Split, samples: Any, padding: Padding, loss: Any) -> None:
    """Compare the loss of the model with that of the head over features as a loader pads them.

    Args:
        model: The model.
        split: Its split, for any length.
        samples: The dataset of `of_any_length`.
        padding: How samples become a batch.
        loss: As `fit` takes it; what it keeps from call to call is put back.

    Raises:
        DataError: If they differ.
    """
    device, dtype = next(model.parameters()).device, precision_of(model)
    chosen = torch.linspace(0, len(samples) - 1, min(_COMPARED, len(samples)), device="cpu").long().tolist()
    items = [samples[at] for at in chosen]
    inputs = in_dtype(batches.move(padding.batch([own for own, _ in items]), device), dtype)
    target = batches.move(padding.batch_of_targets([own for _, own in items]), device)
    rows = [split.extract(in_dtype(batches.move(padding.batch([own]), device), dtype)) for own, _ in items]
    features = _as_loaded(split, rows, padding)
    if is_stateless(loss):
        theirs, ours = (_value(part, own, target, loss) for part, own in ((model, inputs), (split.head, features)))
        differs = f"{theirs:.6g} for the model, {ours:.6g} over cached features"
        if abs(ours - theirs) <= _TOLERANCE * max(1.0, abs(theirs)) and _ignores_padding(
            split, inputs, rows, target, loss, padding
        ):
            return
    else:
        try:
            split.check_padded_loss(loss, inputs, target, features)
            return
        except SplitError as error:
            differs = error.received
    raise DataError(
        what="The loss reads outputs at padded places: a cached run would have another loss.",
        where="fit(loss=...)",
        received=differs,
        do="leave padded places out of the loss: pad the targets with -100, which cross entropy ignores, or multiply "
        "by the mask; or train with cache=False.",
    )


def _as_loaded(split: Split, rows: Sequence[tuple[Tensor, ...]], padding: Padding) -> tuple[Tensor, ...]:
    """Features of single samples as a loader pads them."""
    found: list[Tensor] = []
    for at, tensor in enumerate(split.frontier):
        own, value = [row[at] for row in rows], padding.value_of(tensor.name)
        found.append(own[0] if tensor.shared else pad_rows([x[0] for x in own], value, is_left=padding.is_left))
    return tuple(found)


# A loss may be small, as of regression targets in small units: then what it reads at padded places is small, too. Here
# the two differ at padded places alone, in the same kernels, so that the difference is compared with the loss itself.
def _ignores_padding(
    split: Split, inputs: Any, rows: Sequence[tuple[Tensor, ...]], target: Any, loss: Any, padding: Padding
) -> bool:
    """True if the loss stays when features at padded places are replaced by what a loader puts there."""
    computed = split.extract(inputs)
    replaced: list[Tensor] = []
    for at, tensor in enumerate(split.frontier):
        own = computed[at]
        if tensor.is_varying:
            ones = [torch.ones_like(row[at][0], dtype=torch.bool) for row in rows]
            value = own.new_full((), padding.value_of(tensor.name))
            own = torch.where(pad_rows(ones, False, is_left=padding.is_left), own, value)
        replaced.append(own)
    before, after = (_value(split.head, own, target, loss) for own in (computed, tuple(replaced)))
    return abs(after - before) <= _TOLERANCE * abs(before)


def _value(part: nn.Module, inputs: Any, target: Any, loss: Any) -> float:
    return float(loss_of(make_loss(loss), first_outputs(part, inputs), target))
