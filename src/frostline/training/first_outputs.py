"""Outputs for the first samples: whether labels, loss and metrics fit them, before anything that takes long.

Legend: B batch, N the whole set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes
from frostline.training.losses import IGNORED, as_labels, ignored_label, make_loss
from frostline.training.metrics import Metric, check_metric
from frostline.training.outputs import loss_of, output_of

if TYPE_CHECKING:
    from torch import nn


def first_outputs(module: nn.Module, inputs: Any) -> Any:
    """What a module returns for a few samples in evaluation mode; nothing of the module changes."""
    kept = kept_buffers(module), kept_attributes(module, numbers=True)
    with torch.no_grad(), kept_modes(module), kept_generators(), kept[0], kept[1]:
        module.eval()
        return batches.call(module, inputs)


def check_classes(output: Any, labels: Mapping[str, tuple[Any, Tensor]]) -> None:
    """Raise if a label is no class of the output.

    Args:
        output: Of the module, for a few samples.
        labels: (dataset, its labels (N,)) by the argument, for the error.

    Raises:
        DataError: It names the sample.
    """
    logits = _logits(output)
    if logits is None or logits.dim() != 2:
        return
    classes = logits.shape[1]
    for where, (dataset, known) in labels.items():
        bad = (((known < 0) | (known >= classes)) & (known != IGNORED)).nonzero()
        if not len(bad):
            continue
        at = int(bad[0])
        target = batches.unpack(batches.read(dataset, at), at)[1]
        if not isinstance(target, Tensor) or target.dim() == 0:  # what is kept may be transformed on its way
            as_labels(logits[:1], torch.as_tensor([int(target)]), where=f"{where}, dataset[{at}]")


def check_loss_and_metrics(
    output: Any, target: Any, val_target: Any, loss: str | Callable[..., Any], metrics: Mapping[str, str | Metric], *,
    calls_loss: bool,
) -> None:  # fmt: skip
    """Raise if the loss, or a metric by name, cannot take these outputs and targets.

    Args:
        output: Of the module, for a few samples.
        target: Of these samples.
        val_target: Of as many samples of the validation data, or None.
        loss: As `fit` takes it.
        metrics: By name; callables of the caller are not called here.
        calls_loss: False leaves the loss out, which may count its calls.

    Raises:
        DataError: If one of them cannot.
    """
    if calls_loss:
        loss_of(make_loss(loss), output, target, is_first=True)
    logits = _logits(output)
    if logits is None or val_target is None:
        return
    # outputs with a place for each word or pixel may have another size for other samples
    shown = val_target if logits.dim() < 3 else target
    count = min(len(logits), batches.batch_size(shown))
    few = batches.move(batches.rows(shown, slice(0, count)), logits.device)
    for metric in metrics.values():
        if isinstance(metric, str):
            check_metric(metric, logits[:count], few, ignored_label(loss))


def _logits(output: Any) -> Tensor | None:
    """The tensor that a loss by name takes; None where there are several: the error of the loss lists them."""
    try:
        return output_of(output)
    except DataError:
        return None
