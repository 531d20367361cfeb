"""What rounded features change: the loss of the head on the first samples, over exact features and over stored ones."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes
from frostline.recipes.stored_line import SHOWN
from frostline.training import loss_of, make_loss

if TYPE_CHECKING:
    from frostline.caching import CachedDataset, FrozenPart
    from frostline.core.records import CacheFigures
    from frostline.recipes.training_setup import TrainingSetup
    from frostline.splitting import Split


def with_losses(setup: TrainingSetup, made: Split, part: FrozenPart, data: CachedDataset) -> CacheFigures:
    """The figures of the training data with both losses, which are printed too; as they are for exact storage.

    Args:
        setup: Of the run.
        made: The split.
        part: The same as the cache takes it.
        data: Its stored features.
    """
    if data.figures.storage == "exact":
        return data.figures
    count = min(SHOWN, setup.plain.num_items)
    model, head, loss, device = setup.model, made.head, make_loss(setup.loss), setup.fabric.device
    with (
        kept_generators(),
        kept_modes(model),
        kept_buffers(model),
        kept_attributes(model, numbers=True),
        torch.no_grad(),
    ):
        inputs, target = setup.plain.batch([*range(count)])
        stored: Any = next(iter(data.loader(count)))[0]
        head.eval()
        found = [
            float(loss_of(loss, head(*batches.move(features, device)), batches.move(target, device)))
            for features in (part.extract(batches.move(inputs, device)), stored)
        ]
    sys.stderr.write(
        f"cache: loss of the head on the first {count} samples: {found[0]:.6g} over exact features, {found[1]:.6g} "
        f"over those stored as {data.figures.storage} ({found[1] - found[0]:+.1e})\n"
    )
    return replace(data.figures, losses=(found[0], found[1]))
