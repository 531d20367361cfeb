"""The first samples of a training: whether labels, loss and metrics fit the outputs, before anything takes long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.mismatch import extra_keys, told_mismatch
from frostline.data import labels_of
from frostline.training import (
    CrossEntropy,
    DatasetBatches,
    Metric,
    check_classes,
    check_loss_and_metrics,
    first_outputs,
    is_cross_entropy,
    is_stateless,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

FEW = 2  # samples that show how many classes the output has


@dataclass(frozen=True)
class FirstSamples:
    """Checks of labels, loss and metrics against the outputs for the first samples.

    Attributes:
        loss: As `fit` takes it.
        metrics: By name.
        fabric: Device and precision.
    """

    loss: Any
    metrics: Mapping[str, str | Metric]
    fabric: Any

    def inputs(self, plain: DatasetBatches, count: int) -> Any:
        """Inputs of at most so many first samples, as one batch on the device."""
        return batches.move(plain.batch([*range(min(count, plain.num_items))])[0], self.fabric.device)

    def check_dataset(self, model: nn.Module, plain: DatasetBatches, plain_val: DatasetBatches | None) -> None:
        """Raise if they do not fit the outputs of the whole model."""
        count = min(FEW, plain.batch_size, plain.num_items)  # inputs that a collate function joins have other rows
        inputs = self.inputs(plain, count)
        with self.fabric.autocast(), told_mismatch(model, inputs):
            output = first_outputs(model, inputs)
        self.check_output(output, count, plain, plain_val)

    def check_output(self, output: Any, count: int, plain: DatasetBatches, plain_val: DatasetBatches | None) -> None:
        """Raise if they do not fit this output for `count` first samples."""
        if is_cross_entropy(self.loss) and isinstance(self.loss, (str, CrossEntropy)):
            check_classes(output, _labels(plain, plain_val))
        val_target = plain_val.first_targets(count) if plain_val is not None else None
        self.check_targets(output, plain.first_targets(count), val_target)

    def check_targets(self, output: Any, target: Any, val_target: Any) -> None:
        """Raise if loss and metrics do not fit this output and these targets."""
        target = batches.move(target, self.fabric.device)
        check_loss_and_metrics(
            output, target, val_target, self.loss, self.metrics, calls_loss=is_stateless(self.loss)
        )  # fmt: skip

    def readers(self) -> list[tuple[Any, bool]]:
        """Functions of the caller that get the output, and whether it is the loss; those of torch read nothing else."""
        found = [(self.loss, True), *((own, False) for own in self.metrics.values())]
        return [(own, is_loss) for own, is_loss in found if callable(own) and not is_stateless(own)]


def _labels(plain: DatasetBatches, plain_val: DatasetBatches | None) -> dict[str, tuple[Any, Tensor]]:
    """Datasets that keep their labels apart from their inputs, with these, by the argument of `fit`."""
    found = {"fit(train)": plain.dataset} | ({"fit(val=...)": plain_val.dataset} if plain_val is not None else {})
    return {where: (data, labels) for where, data in found.items() if (labels := labels_of(data)) is not None}


def refuse_texts(inputs: Any, forward: Callable[..., Any]) -> None:
    """Raise if texts that differ from sample to sample are among the inputs: features follow from tensors alone.

    Args:
        inputs: A batch of inputs.
        forward: Of the model; keys that it does not take are left to it.
    """
    if isinstance(inputs, Mapping):
        extra = extra_keys(cast("Mapping[Any, Any]", inputs), forward)
        inputs = {key: own for key, own in cast("Mapping[Any, Any]", inputs).items() if str(key) not in extra}
    _refuse_texts(inputs)


def _refuse_texts(inputs: Any, name: str = "") -> None:
    if isinstance(inputs, Mapping):
        parts = cast("Mapping[Any, Any]", inputs).items()
    elif isinstance(inputs, (tuple, list)):
        parts = enumerate(cast("Sequence[Any]", inputs))
    else:
        return
    for key, part in parts:
        own = f"{name}.{key}" if name else str(key)
        texts = {text for text in cast("Sequence[Any]", part) if isinstance(text, str)} if _is_list(part) else ()
        if len(texts) > 1:
            raise DataError(
                what=f"The input {own!r} is a text, which cannot be kept with cached features.", where="fit(train)",
                received=f"{', '.join(map(repr, sorted(texts)[:3]))}, and others" if len(texts) > 3
                else ", ".join(map(repr, sorted(texts))),
                do="encode the texts as a tensor in the dataset, such as token ids; or train with "
                "frostline.fit(..., cache=False).",
            )  # fmt: skip
        _refuse_texts(part, own)


def _is_list(value: Any) -> bool:
    return isinstance(value, (tuple, list))
