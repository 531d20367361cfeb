"""The loss of padded batches: it must not read outputs at padded places, where cached features hold nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.core import inputs as batches
from frostline.core.errors import DataError, SplitError
from frostline.core.padding import Padding, pad_rows
from frostline.recipes.model_precision import precision_of
from frostline.training import first_outputs, in_dtype, is_stateless, loss_of, make_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from frostline.splitting import Split

_TOLERANCE = 1e-4  # relative: kernels differ by batch shape, and a loss that reads padded places is off by far more
_COMPARED = 8  # samples


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
    items = [samples[at] for at in range(min(_COMPARED, len(samples)))]
    inputs = in_dtype(batches.move(padding.batch([own for own, _ in items]), device), dtype)
    target = batches.move(padding.batch_of_targets([own for _, own in items]), device)
    rows = [split.extract(in_dtype(batches.move(padding.batch([own]), device), dtype)) for own, _ in items]
    features: list[Tensor] = []
    for at, tensor in enumerate(split.frontier):
        own = [row[at] for row in rows]
        value = padding.value_of(tensor.name)
        features.append(own[0] if tensor.shared else pad_rows([x[0] for x in own], value, is_left=padding.is_left))
    if is_stateless(loss):
        theirs, ours = (
            _value(part, own, target, loss) for part, own in ((model, inputs), (split.head, tuple(features)))
        )
        differs = f"{theirs:.6g} for the model, {ours:.6g} over cached features"
        if abs(ours - theirs) <= _TOLERANCE * max(1.0, abs(theirs)):
            return
    else:
        try:
            split.check_padded_loss(loss, inputs, target, tuple(features))
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


def _value(part: nn.Module, inputs: Any, target: Any, loss: Any) -> float:
    return float(loss_of(make_loss(loss), first_outputs(part, inputs), target))
