"""Steps of the optimizer: each adds up the gradients of a group of batches, and moves the weights once."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.mismatch import told_mismatch
from frostline.core.steps import check_loss, take_step
from frostline.training.fabric import has_scale, unscale
from frostline.training.losses import check_scalar
from frostline.training.optimizers import at_share, needs_closure
from frostline.training.outputs import loss_of
from frostline.training.ranks import nothing

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.training.settings import Batches, Observer, Settings
    from frostline.training.weight_average import WeightAverage


@dataclass
class _Group:
    """The batches of one step.

    Attributes:
        epoch: Counted from 1.
        step: Of the epoch, counted from 0.
        planned: How many batches it takes.
        taken: How many were read.
        unit: How much its first batch counts.
        size: How much all of them count; 0 if every label is ignored.
        loss: Sum of their losses, each times what it counts.
    """

    epoch: int
    step: int
    planned: int
    taken: int = 0
    unit: int = 0
    size: int = 0
    loss: Tensor | None = None

    def __str__(self) -> str:
        batch = f", batch {self.taken} of {self.planned}" if self.planned > 1 else ""
        return f"epoch {self.epoch}, step {self.step + 1}{batch}"


class Stepper:
    """Takes the steps of the epochs of a phase; open it while they run.

    Args:
        fabric: Lightning Fabric.
        module: What is called on a batch, as Fabric wraps it.
        optimizer: The caller's own.
        wrapped: The same, as Fabric wraps it.
        scheduler: Of the learning rate, or None.
        per_epoch: Steps of an epoch.
        settings: Of the run.
        average: Of the weights, or None.
        observer: Gets the loss of every step, or None.
    """

    def __init__(
        self, fabric: Any, module: Any, optimizer: Optimizer, wrapped: Any, scheduler: Any, per_epoch: int,
        settings: Settings, average: WeightAverage | None, observer: Observer | None,
    ) -> None:  # fmt: skip
        self._fabric, self._module, self._optimizer, self._wrapped = fabric, module, optimizer, wrapped
        self._settings, self._observer = settings, observer
        self._scheduler, self._per_epoch, self._average = scheduler, per_epoch, average
        self._needs_closure, self._has_moved = needs_closure(wrapped), False
        self._handle: Any = None

    def __enter__(self) -> Stepper:
        self._handle = self._optimizer.register_step_post_hook(self._moved)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def lr(self, epoch: int) -> float:
        """The learning rate of the first group at the first step of an epoch."""
        share = self._settings.steps.share((epoch - 1) * self._per_epoch, self._per_epoch)
        return float(self._optimizer.param_groups[0]["lr"]) * share

    def epoch(self, data: Batches, epoch: int) -> float:
        """One pass over the data; its mean loss."""
        self._module.train()
        self._settings.ranks.begin_epoch(self._settings.seed, epoch)
        total, count = torch.zeros((), dtype=torch.float64), 0
        each, num_batches, settings = self._settings.steps.accumulation, len(data), self._settings
        group = _Group(epoch, 0, 0)
        for at, (inputs, target) in enumerate(_shown(data, epoch, settings)):
            if at % each == 0:
                group = _Group(epoch, at // each, min(each, num_batches - at))
                self._wrapped.zero_grad()
            size = settings.size_of(target, data, at) if self._has_rows(data, at) else 0
            group.taken += 1
            if size or self._is_shared:  # else every label of the batch is ignored: it has no loss
                device = self._fabric.device
                batch = batches.move(inputs, device), batches.move(target, device)
                take = self._stepped if self._needs_closure else self._added
                loss, size = take(group, batch, size)
                total += loss.double().cpu() * size
                count += size
            if group.taken == group.planned and group.size:
                self._close(group)
        if not count:
            raise DataError(
                what="No sample of the training data has a label.", where=f"epoch {epoch}",
                received=f"{num_batches} batches of ignored labels only",
                do="check the labels: -100 stands for 'no label here'.",
            )  # fmt: skip
        return float(total) / count

    # A loss by name is a mean over what its batch counts. Batches of one size have the same share of the step; others
    # get theirs at the end of the group, when it is known how much all of them count.
    def _added(self, group: _Group, batch: tuple[Any, Any], size: int) -> tuple[Tensor, int]:
        """(the loss of a batch, whose gradients are added, what it counts)."""
        with self._gathered(group.taken == group.planned):
            loss, own, size = self._joined(group, batch, size)
            group.unit = group.unit or size
            share = size / (group.unit * group.planned) if group.unit else 0.0
            self._fabric.backward(loss if group.planned == 1 else loss * share)
        group.size += size
        weighted = own if group.planned == 1 else own * size
        group.loss = weighted if group.loss is None else group.loss + weighted
        return own, size

    @property
    def _is_shared(self) -> bool:
        """True if other processes have parts of every batch."""
        return self._settings.ranks.count > 1

    def _has_rows(self, data: Any, at: int) -> bool:
        """False if this process has none of the rows of a batch."""
        ranks = self._settings.ranks
        return not self._is_shared or ranks.has_rows(data.num_samples, data.batch_size, at)

    def _gathered(self, is_last: bool) -> AbstractContextManager[Any]:
        """Around a backward pass; gradients are averaged over the processes in the last one of a step."""
        if not self._is_shared:
            return nullcontext()
        return self._fabric.no_backward_sync(self._module, enabled=not is_last)

    def _joined(self, group: _Group, batch: tuple[Any, Any], size: int) -> tuple[Tensor, Tensor, int]:
        """(the loss that is differentiated, the loss of the whole batch, what that counts).

        Args:
            group: Of the batch.
            batch: The part of this process.
            size: What the part counts.
        """
        if not self._is_shared:
            loss = self._loss(group, batch)
            return loss, loss.detach(), size
        loss = self._loss(group, batch) if size else nothing(called(self._module, batch[0]))
        mass = self._settings.mass(batch[1]) if size else 0.0
        whole, share, counted = self._settings.ranks.joined(loss, mass, size)
        return loss * share, whole, counted

    def _loss(self, group: _Group, batch: tuple[Any, Any]) -> Tensor:
        is_first = (group.epoch, group.step) == (1, 0) and not group.size
        loss = loss_of(self._settings.loss, called(self._module, batch[0]), batch[1], is_first=group.step == 0)
        check_scalar(loss, str(group), batch[0], target=batch[1], module=self._module, is_first=is_first)
        check_loss(loss, str(group))
        return loss

    def _close(self, group: _Group) -> None:
        """Take the step of a group whose gradients are there."""
        if not self._needs_closure:
            with self._paced(group):
                self._move(group)
        self._wrapped.zero_grad()
        self._follow(group)
        if group.loss is not None:
            loss = group.loss if group.planned == 1 else group.loss / group.size
            if self._observer is not None:
                self._observer.step(loss)
            self._settings.callbacks.call("on_train_batch_end", step=self._number(group) + 1, loss=loss)

    @contextmanager
    def _paced(self, group: _Group) -> Generator[None]:
        """Inside, the groups of the optimizer have the rates of this step."""
        self._has_moved = False
        share = self._settings.steps.share(self._number(group), self._per_epoch)
        with self._settings.pace(group.epoch, group.step), ExitStack() as stack:
            for number in range(len(self._optimizer.param_groups)) if share < 1 else ():
                stack.enter_context(at_share(self._optimizer, number, share))
            yield

    def _number(self, group: _Group) -> int:
        return (group.epoch - 1) * self._per_epoch + group.step

    def _moved(self, *_: object) -> None:
        self._has_moved = True

    # A step is left out where its gradients are not finite: by a clip, or by the scaler of float16.
    def _follow(self, group: _Group) -> None:
        """What comes after a step that was not left out."""
        steps, number = self._settings.steps, self._number(group)
        if not self._has_moved:
            return
        if self._average is not None:
            self._average.follow()
        if self._scheduler is not None and not steps.is_per_epoch and steps.share(number, self._per_epoch) == 1:
            self._scheduler.step()

    def _move(self, group: _Group) -> None:
        parameters = [p for entry in self._optimizer.param_groups for p in entry["params"]]
        nominal = group.unit * group.planned
        if group.planned > 1 and group.size != nominal:
            _scale(parameters, nominal / group.size)
        clipped = None
        if self._settings.clip is not None:
            unscale(self._fabric, self._optimizer)
            clipped = self._settings.clip(parameters)
        if not getattr(clipped, "skipped", False) or has_scale(self._fabric):
            take_step(self._wrapped)

    def _stepped(self, group: _Group, batch: tuple[Any, Any], size: int) -> tuple[Tensor, int]:
        """The step of an optimizer that computes the loss itself, perhaps several times; (the first loss, its size)."""
        losses: list[Tensor] = []

        def closure() -> Tensor:
            self._wrapped.zero_grad()
            loss, whole, group.size = self._joined(group, batch, size)
            self._fabric.backward(loss)
            losses.append(whole)
            return whole

        with self._paced(group):
            self._wrapped.step(closure)
        group.loss = losses[0]
        return group.loss, group.size


def _scale(parameters: list[nn.Parameter], factor: float) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def called(wrapped: Any, inputs: Any) -> Any:
    """What the module gives for a batch.

    Raises:
        DataError: If it does not take the batch, or its output cannot be used.
    """
    try:
        with told_mismatch(getattr(wrapped, "module", wrapped), inputs):  # Fabric's wrapper holds the model
            return batches.call(wrapped, inputs)
    except ValueError as error:
        if "frozen dataclass" in str(error):
            raise DataError(
                what="The model returns a frozen dataclass, whose tensors cannot be converted.",
                where="the model's output", received=str(error),
                do="make it @dataclass without frozen=True, or return a mapping.",
            ) from error  # fmt: skip
        if "more than 1 value per channel" not in str(error):
            raise
        raise DataError(
            what="A batch of one sample has no statistics to normalise with.",
            where="a BatchNorm in the trainable part",
            received=str(error),
            do="choose a batch_size that leaves no single sample at the end, or freeze that layer.",
        ) from error


def _shown(data: Batches, epoch: int, settings: Settings) -> Iterable[tuple[Any, Tensor]]:
    if not settings.progress or not sys.stderr.isatty():
        return data
    from rich.console import Console
    from rich.progress import track

    return track(data, f"Epoch {epoch}", total=len(data), console=Console(stderr=True), transient=True)
