"""Losses by name, what of a model's output they take, and labels that do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frostline.core.arguments import check_callable
from frostline.core.errors import DataError, nearest
from frostline.core.inputs import batch_size, describe, leaves, rows_where
from frostline.training.outputs import output_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

Loss = Callable[[Any, Any], Tensor]

_MOST_CLASSES = 1_000_000  # chosen by us: labels beyond are identifiers, not classes
_HALF_ADVICE = (
    "use precision='bf16-true' or '16-mixed': in float16 the eps of Adam (1e-8) is 0, so that its steps divide by "
    "zero, and numbers above 65,504 are infinite."
)
_ADVICE = (
    "lower lr, clip the gradients (clip=frostline.remedies.clip_by_norm(1.0)) or check the inputs; the last checkpoint "
    "is kept."
)
_OWN_LOSS = (
    " A model computes a loss of its own only if labels are among its inputs: return ({**inputs, 'labels': labels}, "
    "labels) from the dataset."
)
IGNORED = -100  # torch's own mark for "no label here"


def make_loss(loss: str | Loss) -> Loss:
    """A loss by name: `cross_entropy`, `mse`, `bce` (with logits); a callable gets the model's whole output.

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
    return partial(_of_output, known[loss])


class CrossEntropy:
    """Cross entropy with weights of classes and label smoothing, of whatever form of output a model has.

    Args:
        class_weights: (C,) float32, the weight of each class in the mean; None weighs all alike.
        label_smoothing: The share of probability that is spread over all classes, 0 to below 1.

    References:
        Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision, section 7 (label smoothing).
    """

    def __init__(self, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        self.class_weights, self._smoothing = class_weights, label_smoothing

    def __repr__(self) -> str:
        weights = self.class_weights.tolist() if self.class_weights is not None else None
        return f"CrossEntropy(class_weights={weights}, label_smoothing={self._smoothing})"

    def __call__(self, output: Any, target: Any) -> Tensor:
        """The weighted mean over the labels that are not -100: a scalar."""
        logits = output_of(output)
        weights = self._weights(logits)
        return F.cross_entropy(logits, as_labels(logits, target), weights, label_smoothing=self._smoothing)

    def _weights(self, logits: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        classes = logits.shape[1] if logits.dim() > 1 else 1
        if len(self.class_weights) != classes:
            raise DataError(
                what="The weights of the classes do not fit the outputs of the model.", where="fit(class_weights=...)",
                received=f"{len(self.class_weights)} weights, {classes} outputs",
                do="pass one number for each output: class_weights=[...]; 'balanced' covers the classes that have a "
                "sample or a name.",
            )  # fmt: skip
        return self.class_weights.to(logits)

    def of_heads(self, logits_BCK: Tensor, target: Any) -> Tensor:
        """(K,) losses of K heads, whose logits (B, C, ..., K) are beside each other: each as of its head alone."""
        labels = as_labels(logits_BCK[..., 0], target)
        weights = self._weights(logits_BCK)
        every = labels.unsqueeze(-1).expand(*labels.shape, logits_BCK.shape[-1])
        values_BK = F.cross_entropy(logits_BCK, every, weights, reduction="none", label_smoothing=self._smoothing)
        total_K = values_BK.flatten(0, -2).sum(0)
        if labels.is_floating_point():  # probabilities: torch takes the mean over all places
            return total_K * (labels.shape[1] / labels.numel())
        counts = labels != IGNORED
        return total_K / (counts.sum() if weights is None else weights[labels[counts]].sum())


def is_cross_entropy(loss: Any) -> bool:
    """True for cross entropy by name, weighted, smoothed, or as torch has it: its outputs are logits of classes."""
    return loss == "cross_entropy" or isinstance(loss, (CrossEntropy, nn.CrossEntropyLoss))


def _of_output(loss: Loss, output: Any, target: Any) -> Tensor:
    return loss(output_of(output), target)


def ignored_label(loss: str | Loss) -> int | None:
    """The label that a loss leaves out: torch's -100 for cross entropy by name, or its own `ignore_index`."""
    if isinstance(loss, (str, CrossEntropy)):
        return IGNORED if is_cross_entropy(loss) else None
    found = getattr(loss, "ignore_index", getattr(loss, "keywords", {}).get("ignore_index"))
    return found if isinstance(found, int) else None


def compares_numbers(loss: Any) -> bool:
    """True if a loss is known to compare numbers: its targets are a regression, whole numbers too."""
    numeric = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.PoissonNLLLoss)
    functions = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.poisson_nll_loss)
    return loss == "mse" or isinstance(loss, numeric) or loss in functions


def num_counted(loss: str | Loss, target: Any) -> int:
    """How much a batch counts: its labels without those that the loss ignores (-100), else its samples."""
    ignored = ignored_label(loss)
    if ignored is None or not isinstance(target, Tensor) or target.is_floating_point():
        return batch_size(target)
    is_counted = target != ignored
    return int(is_counted.sum()) if is_counted.dim() else len(target)


def mass_of(loss: str | Loss, target: Any) -> float:
    """What the mean over a batch is divided by: what it counts, or its labels' weights where classes have some."""
    weights = getattr(loss, "class_weights", getattr(loss, "weight", None))
    if not isinstance(weights, Tensor) or not isinstance(target, Tensor) or target.is_floating_point():
        return num_counted(loss, target)
    labels = target[target != ignored_label(loss)] if ignored_label(loss) is not None else target
    return float(weights.to(labels.device)[labels].double().sum()) if is_cross_entropy(loss) else len(target)


def check_scalar(
    loss: Any, place: str, inputs: Any = None, *, target: Any = None, module: nn.Module | None = None,
    is_first: bool = False,
) -> None:  # fmt: skip
    """Raise unless the loss is one finite number.

    Args:
        loss: What the loss returned.
        place: Epoch and step.
        inputs: What it was computed from; values that are not finite there are the cause.
        target: The same.
        module: What is trained; float16 weights have causes of their own.
        is_first: No step was taken yet: weights that are not finite are the cause.

    Raises:
        DataError: If it is not.
    """
    if not isinstance(loss, Tensor):
        raise DataError(
            what="The loss is not a single finite number.", where=place, received=describe(loss),
            do="return a scalar tensor from the loss, computed from the output."
            + (_OWN_LOSS if loss is None else ""),
        )  # fmt: skip
    loss = loss.detach()
    if loss.dim() or not bool(torch.isfinite(loss)):
        rows = [] if loss.dim() else _rows_not_finite(inputs)
        bad = [] if loss.dim() or rows else _rows_not_finite(target)
        if bad:
            raise DataError(
                what="The loss is NaN or infinite because targets of this batch are.", where=place,
                received=f"{float(loss)}; NaN or Inf in {len(bad)} targets of the batch, the first at {bad[0]}",
                do="remove or correct the samples whose target is not finite; the last checkpoint is kept.",
            )  # fmt: skip
        weights = [] if module is None or loss.dim() or not is_first else _weights_not_finite(module)
        if weights:
            raise DataError(
                what="The loss is NaN or infinite because weights of the model are.", where=place,
                received=f"{float(loss)}; NaN or Inf in {weights[0]}, before the first step",
                do="load or draw these weights again: torch.isfinite(parameter).all() finds them.",
            )  # fmt: skip
        if rows:
            raise DataError(
                what="The loss is NaN or infinite because inputs of this batch are.", where=place,
                received=f"{float(loss)}; "
                f"NaN or Inf in {len(rows)} sample{'s' * (len(rows) != 1)} of the batch, the first at {rows[0]}",
                do="remove or correct the samples where torch.isfinite(inputs) is False; the last checkpoint is kept.",
            )  # fmt: skip
        raise DataError(
            what="The loss is not a single finite number.",
            where=place,
            received=f"shape {tuple(loss.shape)}" if loss.dim() else f"{float(loss)}",
            do="return a scalar from the loss" if loss.dim() else _HALF_ADVICE if _is_half(module) else _ADVICE,
        )  # fmt: skip


def check_validation_loss(loss: float, inputs: Any, target: Any, start: int) -> None:
    """Raise if a validation loss is not finite because samples are not: later epochs cannot change that.

    Args:
        loss: Of one batch.
        inputs: What it was computed from.
        target: The same.
        start: Position of the batch's first sample in the dataset.

    Raises:
        DataError: It names the first such sample.
    """
    if math.isfinite(loss):
        return
    for what, given in (("inputs", inputs), ("targets", target)):
        if rows := _rows_not_finite(given):
            raise DataError(
                what=f"The validation loss is not finite: {what} of the validation data are not.",
                where=f"fit(val=...), sample {start + rows[0]}",
                received=f"{loss}; NaN or Inf in the {what} of {len(rows)} sample{'s' * (len(rows) != 1)} of the batch",
                do=f"remove or correct the samples whose {what} are not finite: torch.isfinite(...) finds them.",
            )  # fmt: skip


def _is_half(module: nn.Module | None) -> bool:
    return module is not None and any(p.dtype == torch.float16 for p in module.parameters() if p.requires_grad)


def _weights_not_finite(module: nn.Module) -> list[str]:
    return [name for name, tensor in module.named_parameters() if not bool(torch.isfinite(tensor).all())]


def _rows_not_finite(inputs: Any) -> list[int]:
    """Positions in the batch of samples with values that are not finite."""
    tensors = [t for t in leaves(inputs).values() if t.dim() and (t.is_floating_point() or t.is_complex())]
    return sorted({at for t in tensors for at in rows_where(~torch.isfinite(t))})


def _cross_entropy(output: Tensor, target: Any) -> Tensor:
    return F.cross_entropy(output, as_labels(output, target))


def _mse(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output, _shaped(output, target))


def _bce(output: Tensor, target: Tensor) -> Tensor:
    shaped = _shaped(output, target)
    bad = (shaped < 0) | (shaped > 1)
    if bool(bad.any()):
        at = tuple(int(place) for place in bad.nonzero()[0])
        raise DataError(
            what="A target is no probability.", where=f"sample {at[0]} of the batch",
            received=f"{float(shaped[at]):g}; binary cross entropy takes 0 to 1",
            do="return 0 or 1 as the target; for more classes: loss='cross_entropy' and a model with C outputs.",
        )  # fmt: skip
    return F.binary_cross_entropy_with_logits(output, shaped)


def _shaped(output: Tensor, target: Any) -> Tensor:
    """A target (B,) fits an output (B, 1): broadcasting them would compare every pair."""
    if not isinstance(target, Tensor):
        raise DataError(
            what="The targets are not numbers.", where="the loss", received=describe(target),
            do="return a number or a tensor as the target, or pass a loss that is callable(output, target).",
        )  # fmt: skip
    if target.shape == output.shape[:1] and output.shape[1:] == (1,):
        target = target.unsqueeze(1)
    if target.numel() == output.numel() == 1:  # a model that ends in squeeze(), for a batch of one sample
        target = target.reshape(output.shape)
    if target.shape != output.shape:
        raise DataError(
            what="Target and output have different shapes.", where="the loss",
            received=f"target {tuple(target.shape)}, output {tuple(output.shape)}",
            do="make the model's output and the dataset's target the same shape.",
        )  # fmt: skip
    return target.to(output.dtype)


def _no_labels(output: Tensor, target: Any, where: str) -> DataError:
    is_text = not isinstance(target, Tensor) and all(isinstance(label, str) for label in target)
    return DataError(
        what="Cross entropy needs class indices as targets, or probabilities in the shape of the output.",
        where=where, received=f"{describe(target)}; the output is {describe(output)}",
        do="number the classes: names = sorted(set(labels)), and return names.index(label) as the target."
        if is_text else
        "return an integer class index as the target; or pass loss='mse', loss='bce' or a callable.",
    )  # fmt: skip


def as_labels(output: Tensor, target: Any, *, ignored: int = IGNORED, where: str = "the loss") -> Tensor:
    """Targets as cross entropy takes them: class indices (B, ...), or probabilities in the shape of the output.

    A column of indices (B, 1) loses its axis; one-hot integers and booleans become probabilities.

    Args:
        output: Of the model, the classes on axis 1.
        target: Of the dataset.
        ignored: A label that stands for "no label here".
        where: The calling function, for the error.

    Raises:
        DataError: If they are neither, or a label is no class of the output.
    """
    if isinstance(target, Tensor) and target.is_floating_point() and target.shape == output.shape and output.dim() > 1:
        return target.to(output.dtype)
    if isinstance(target, Tensor) and target.dtype == torch.bool and target.dim() > 1 and is_one_hot(target):
        target = target.long()
    if not isinstance(target, Tensor) or target.is_floating_point() or target.dtype == torch.bool:
        raise _no_labels(output, target, where)
    classes = output.shape[1] if output.dim() > 1 else 1
    wanted = (*output.shape[:1], *output.shape[2:])
    if (
        target.shape != wanted
        and target.dim() > 1
        and target.shape[1] == 1
        and (*target.shape[:1], *target.shape[2:]) == wanted
    ):
        target = target.squeeze(1)
    if target.shape == output.shape and target.shape != wanted and is_one_hot(target):
        return target.to(output.dtype)
    if target.shape != wanted:
        is_last = output.dim() > 2 and target.shape == output.shape[:-1]
        raise DataError(
            what="Cross entropy needs one class index for each place of the output.", where=where,
            received=f"targets {tuple(target.shape)} of a batch, outputs {tuple(output.shape)}, classes on axis 1",
            do="the classes are on the last axis here: pass loss=lambda output, target: "
            "torch.nn.functional.cross_entropy(output.flatten(0, -2), target.flatten())." if is_last else
            f"return {_shape_of_item(wanted)} from 0 to {classes - 1} as the target of an item; or pass a callable.",
        )  # fmt: skip
    if classes == 1 and output.dim() > 1:
        raise DataError(
            what="With a single output, cross entropy is always 0: nothing can be learnt.", where=where,
            received=f"output {tuple(output.shape)}",
            do="give the model C outputs: frostline.replace_head(model, C); or pass loss='bce' for two classes.",
        )  # fmt: skip
    bad = ((target < 0) | (target >= classes)) & (target != ignored)
    if bool(bad.any()):
        at = tuple(int(place) for place in bad.nonzero()[0])
        is_no_class = not 0 <= int(target[at]) < _MOST_CLASSES
        raise DataError(
            what="A label is outside of the range of the model's classes.",
            where=f"sample {at[0]} of the batch" if where == "the loss" else where,
            received=f"label {int(target[at])}; the output has {classes} classes (0 to {classes - 1})",
            do=f"map the labels to 0..C-1; {ignored} marks a sample without a label."
            if is_no_class
            else "map the labels to 0..C-1, or give the model C outputs: frostline.replace_head(model, C).",
        )
    return target.long()


def _shape_of_item(wanted: Sequence[int]) -> str:
    return f"integers of shape {tuple(wanted[1:])}" if wanted[1:] else "one integer"


def is_one_hot(target: Tensor) -> bool:
    """True for zeros and ones (B, C, ...) with a single one in every sample."""
    is_binary = bool(((target == 0) | (target == 1)).all())
    return is_binary and bool((target.sum(1) == 1).all())


def untrained_text(loss: Any, optimizer: Optimizer) -> str:
    """What is to be said of weights that a loss of the caller holds and that no optimizer moves; empty without any.

    A margin loss has some that should train; a network that only compares images has none. Both look alike.
    """
    if not isinstance(loss, nn.Module):
        return ""
    moved = {id(own) for group in optimizer.param_groups for own in group["params"]}
    left = [name for name, own in loss.named_parameters() if own.requires_grad and id(own) not in moved]
    if not left:
        return ""
    return (
        f"{type(loss).__name__} has weights of its own, which the optimizer does not hold: they stay as they are "
        f"({', '.join(left[:3])}{' and more' if len(left) > 3 else ''}). If they should train, make the loss a layer "
        "of the model"
    )
