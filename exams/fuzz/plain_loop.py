"""A training loop that knows nothing of the library: what `fit(cache=False)` has to equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from .models import call, logits, seed_all
from .samples import take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD,
              "rmsprop": torch.optim.RMSprop}  # fmt: skip


class NotingList(list[Any]):
    """A dataset that notes which samples are read, in order."""

    def __init__(self, rows: Sequence[Any]) -> None:
        super().__init__(rows)
        self.read: list[int] = []

    def __getitem__(self, index: Any) -> Any:
        self.read.append(index)
        return super().__getitem__(index)


def plain_training(
    model: nn.Module, inputs: Any, labels: Tensor, order: list[int], *, batch: int,
    optimizer: Callable[..., Optimizer], seed: int,
) -> None:  # fmt: skip
    """Train the model over these samples in this order, as anybody would.

    Args:
        model: Frozen in part.
        inputs: Of all samples.
        labels: Of all samples.
        order: The samples of all epochs, one behind the other.
        batch: Samples of a step.
        optimizer: Makes one of parameters.
        seed: Of the noise.
    """
    seed_all(seed)
    steps = optimizer([own for own in model.parameters() if own.requires_grad])
    for start in range(0, len(order), len(labels)):
        model.train()
        epoch = order[start : start + len(labels)]
        for at in range(0, len(epoch), batch):
            part = epoch[at : at + batch]
            F.cross_entropy(logits(call(model, take(inputs, part))), labels[part]).backward()
            steps.step()
            steps.zero_grad()
