"""Losses by name, what of a model's output they take, and labels that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from frostline.core.arguments import check_callable
from frostline.core.errors import DataError, nearest
from frostline.core.inputs import describe, leaves

Loss = Callable[[Tensor, Any], Tensor]
Metric = Callable[[Tensor, Any], Any]


def make_loss(loss: str | Loss) -> Loss:
    """A loss by name: `cross_entropy`, `mse`, `bce` (with logits); a callable is taken as it is.

    Raises:
        DataError: If there is no loss of this name.
    """
    if not isinstance(loss, str):
        return check_callable("fit", "loss", loss, takes="(output, target) -> scalar tensor, or a name")
    known: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mse": _mse, "bce": _bce}
    if loss not in known:
        raise DataError(
            what=f"There is no loss named {loss!r}.", where="fit(loss=...)", received=repr(loss),
            do=f"use {nearest(loss, known)}, or a callable(output, target) -> scalar tensor.",
        )  # fmt: skip
    return known[loss]


def make_metric(metric: Metric | None, loss: str | Loss) -> Metric | None:
    """The metric of a validation: accuracy for classification, unless another is given."""
    if metric is not None and not callable(metric):
        raise DataError(
            what="The metric is not usable.", where="fit(metric=...)", received=repr(metric),
            do="pass a callable(output, target) -> number, higher is better; None takes accuracy for cross entropy.",
        )  # fmt: skip
    if metric is not None:
        return metric
    return accuracy if loss == "cross_entropy" else None


def accuracy(output: Tensor, target: Any) -> float:
    """Share of the samples whose largest logit is at the target: output (B, C, ...), target (B, ...)."""
    return float((output.argmax(dim=1) == target).float().mean())


def output_of(result: Any) -> Tensor:
    """The tensor of a model's output that the loss takes: itself, `.logits`, or the first of a tuple.

    Raises:
        DataError: If it is anything else.
    """
    if isinstance(result, Tensor):
        return result
    logits = getattr(result, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(result, (tuple, list)) and result and isinstance(result[0], Tensor):
        return cast("Sequence[Tensor]", result)[0]
    raise DataError(
        what="Cannot tell which part of the model's output the loss takes.",
        where="the model's output",
        received=type(result).__name__,
        do="return a tensor, an object with .logits, or a tuple whose first entry is the output.",
    )


def check_scalar(loss: Any, place: str, inputs: Any = None) -> None:
    """Raise unless the loss is one finite number.

    Args:
        loss: What the loss returned.
        place: Epoch and step.
        inputs: What it was computed from; values that are not finite there are the cause.

    Raises:
        DataError: If it is not.
    """
    if not isinstance(loss, Tensor):
        raise DataError(
            what="The loss is not one finite number.", where=place, received=describe(loss),
            do="return a scalar tensor from the loss, computed from the output.",
        )  # fmt: skip
    loss = loss.detach()
    if loss.dim() or not bool(torch.isfinite(loss)):
        rows = [] if loss.dim() else _rows_not_finite(inputs)
        if rows:
            raise DataError(
                what="The loss is not one finite number: the samples are not.", where=place,
                received=f"{float(loss)}; NaN or Inf in {len(rows)} samples of the batch, the first at {rows[0]}",
                do="remove or mend the samples where torch.isfinite(inputs) is False; the last checkpoint is kept.",
            )  # fmt: skip
        raise DataError(
            what="The loss is not one finite number.",
            where=place,
            received=f"shape {tuple(loss.shape)}" if loss.dim() else f"{float(loss)}",
            do="return a scalar from the loss" if loss.dim() else "lower lr, clip the gradients "
            "(clip=frostline.remedies.clip_by_norm(1.0)) or check the inputs; the last checkpoint is kept.",
        )  # fmt: skip


def _rows_not_finite(inputs: Any) -> list[int]:
    """Positions in the batch of samples with values that are not finite."""
    tensors = [t for t in leaves(inputs).values() if t.dim() and (t.is_floating_point() or t.is_complex())]
    return sorted({int(at) for t in tensors for at in (~torch.isfinite(t).flatten(1).all(1)).nonzero()})


def _cross_entropy(output: Tensor, target: Any) -> Tensor:
    _check_labels(output, target)
    return F.cross_entropy(output, target)


def _mse(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output, _shaped(output, target))


def _bce(output: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, _shaped(output, target))


def _shaped(output: Tensor, target: Any) -> Tensor:
    """A target (B,) fits an output (B, 1): broadcasting them would compare every pair."""
    if not isinstance(target, Tensor):
        raise DataError(
            what="The targets are not numbers.", where="the loss", received=describe(target),
            do="return a number or a tensor as the target, or pass a loss that is callable(output, target).",
        )  # fmt: skip
    if target.shape == output.shape[:1] and output.shape[1:] == (1,):
        target = target.unsqueeze(1)
    if target.shape != output.shape:
        raise DataError(
            what="Target and output have different shapes.", where="the loss",
            received=f"target {tuple(target.shape)}, output {tuple(output.shape)}",
            do="make the model's output and the dataset's target the same shape.",
        )  # fmt: skip
    return target.to(output.dtype)


def _check_labels(output: Tensor, target: Any) -> None:
    if isinstance(target, Tensor) and target.is_floating_point() and target.shape == output.shape:
        return  # probabilities of classes
    if not isinstance(target, Tensor) or target.is_floating_point() or target.dtype == torch.bool:
        raise DataError(
            what="Cross entropy needs class indices as targets, or probabilities in the shape of the output.",
            where="the loss", received=f"{describe(target)}; the output is {describe(output)}",
            do="return an integer class index as the target; or pass loss='mse', loss='bce' or a callable.",
        )  # fmt: skip
    classes = output.shape[1] if output.dim() > 1 else 1
    is_ignored = target == -100  # torch's own mark for "no label here"
    bad = ((target < 0) | (target >= classes)) & ~is_ignored
    if bool(bad.any()):
        at = int(bad.flatten().nonzero()[0])
        is_negative = int(target.flatten()[at]) < 0
        raise DataError(
            what="A label is outside of the range of the model's classes.",
            where=f"sample {at} of the batch",
            received=f"label {int(target.flatten()[at])}; the output has {classes} classes (0 to {classes - 1})",
            do="map the labels to 0..C-1; -100 marks a sample without a label."
            if is_negative
            else "map the labels to 0..C-1, or give the model C outputs: frostline.replace_head(model, C).",
        )
