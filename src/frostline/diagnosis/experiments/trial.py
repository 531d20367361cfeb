"""Short trainings on copies: the same batches from the same start, once as it is and once with one factor undone.

A trial answers the question that symptoms cannot: would the network train if this one thing were different?
"""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.norms import gradient_norms, separate_norms
from frostline.core.restore import kept_generators, seed_generators
from frostline.core.steps import check_loss, check_reached, copied, is_optimizer, take_step
from frostline.splitting import model_of, runs_own_forward

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch.optim import Optimizer

    from frostline.diagnosis.monitor.monitor import Monitor

Batch = tuple[Any, Any]

_UNREAD = 100  # steps whose norms wait, on the device, to be read together: one tensor for each gradient


@dataclass
class Patient:
    """A model in training: what a treatment may change.

    Attributes:
        model: The network.
        optimizer: Over its trainable parameters.
        clip: Called with the parameters before each step, or None.
        accumulation: Batches whose gradients make one step; their mean is taken.
        scaler: Scales the loss (`torch.amp.GradScaler`), or None.
    """

    model: nn.Module
    optimizer: Optimizer
    clip: Callable[[list[nn.Parameter]], Any] | None = None
    accumulation: int = 1
    scaler: Any = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def copy(self) -> Patient:
        """A twin with weights, statistics and optimizer state of its own.

        Raises:
            DataError: If the model cannot be copied.
        """
        if runs_own_forward(self.model):  # a head alone would be a copy without the model that it runs
            _, model, optimizer = copied(model_of(self.model), self.model, self.optimizer)
        else:
            model, optimizer = copied(self.model, self.optimizer)
        scaler = copy.deepcopy(self.scaler)
        return Patient(model, optimizer, copy.deepcopy(self.clip), self.accumulation, scaler)


def usual_optimizer(model: nn.Module, given: Any) -> Optimizer:
    """The optimizer that was given, or that which the given function makes, or AdamW at 1e-3.

    Raises:
        DataError: If that is none, or nothing trains.
    """
    if given is not None and is_optimizer(given):
        return given
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    made: Any = given(trainable) if callable(given) and trainable else None
    if given is not None and trainable and not is_optimizer(made):
        raise DataError(
            what="That is no optimizer, and does not make one.", where="checkup(optimizer=...)",
            received=type(given if made is None else made).__name__,
            do="pass the optimizer that you train with, or one that is made from the parameters: "
            "lambda parameters: torch.optim.SGD(parameters, lr=0.1).",
        )  # fmt: skip
    if made is not None:
        return made
    if not trainable:
        raise DataError(
            what="The model has nothing to train: every parameter is frozen.", where=type(model).__name__,
            received=f"{sum(1 for _ in model.parameters())} parameters, none of which requires gradients",
            do="let something train, such as model.requires_grad_(True), or check the module that does.",
        )  # fmt: skip
    is_half = any(parameter.dtype == torch.float16 for parameter in trainable)
    return torch.optim.AdamW(trainable, lr=1e-3, eps=1e-4 if is_half else 1e-8)  # 1e-8 is zero in float16


@dataclass(frozen=True)
class Course:
    """What a training saw.

    Attributes:
        norms: Gradient norm of every step, as the optimizer gets it: unscaled, accumulated, clipped.
        num_skipped: Steps that were left out because something was not finite.
        losses: Of every step, where steps that are not finite are left out or end it.
        is_whole: False if it was broken off.
    """

    norms: tuple[float, ...]
    num_skipped: int
    losses: tuple[float, ...] = ()
    is_whole: bool = True


def train(
    patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *, monitor: Monitor | None = None,
    seed: int = 0, measures: bool = True, skips_nonfinite: bool = False,
    skips_inputs: bool = False, stops_nonfinite: bool = False,
) -> Course:  # fmt: skip
    """Train on these batches in order, with the same noise in every trial.

    Args:
        patient: Trained in place.
        data: Batches of (inputs, target).
        loss_fn: callable(output, target) -> scalar.
        monitor: Told every loss.
        seed: Of the noise in the model.
        measures: False leaves out the gradient norms.
        skips_nonfinite: True leaves out steps whose input, loss or gradient is not finite; to look costs a tenth.
        skips_inputs: True leaves out steps whose input is not finite.
        stops_nonfinite: True breaks off at the first loss that is not finite.

    Raises:
        DataError: If the loss is not a scalar, or backward cannot run.
    """
    norms = _Norms()
    losses: list[float] = []
    num_skipped = 0
    parameters = list(dict.fromkeys(patient.parameters))
    looks = skips_nonfinite or skips_inputs  # at all at once: between two steps it takes four times as long
    are_fit = [not looks or batches.are_finite(inputs) for inputs, _ in data]
    if sum(are_fit) < len(data) / 2:  # masks of -inf, perhaps
        are_fit = [not batches.is_broken(inputs) for inputs, _ in data]
    fit = [at for at, is_fit in enumerate(are_fit) if is_fit]
    num_skipped += len(data) - len(fit)  # before running statistics have seen them
    count = patient.accumulation
    with kept_generators(), torch.enable_grad(), _measuring(patient, parameters, norms, is_on=measures):
        seed_generators(seed)
        for group in (fit[at : at + count] for at in range(0, len(fit), count)):
            patient.optimizer.zero_grad()
            total: Tensor | None = None
            for at in group:
                inputs, target = data[at]
                loss = loss_fn(batches.call(patient.model, inputs), target)
                check_loss(loss, f"loss_fn(output, target), batch {at}")
                loss = loss if count == 1 else loss / len(group)
                total = loss.detach() if total is None else total + loss.detach()
                if stops_nonfinite and not math.isfinite(float(total)):
                    return Course(norms.read(), num_skipped, (*losses, float(total)), is_whole=False)
                _backward(patient, loss, at, is_first=at == fit[0])
            assert total is not None
            if patient.scaler is not None:
                patient.scaler.unscale_(patient.optimizer)
            if stops_nonfinite or skips_nonfinite:
                losses.append(float(total))
            if skips_nonfinite and (not math.isfinite(losses[-1]) or not _is_gradient_finite(parameters)):
                if measures:
                    norms.add(separate_norms(parameters)[0])
                num_skipped += len(group)
                continue
            _step(patient, parameters, norms if measures else None)
            if monitor is not None:
                monitor.step(total)
    patient.optimizer.zero_grad()
    return Course(norms.read(), num_skipped, tuple(losses))


def _backward(patient: Patient, loss: Tensor, at: int, *, is_first: bool) -> None:
    """The backward pass of a batch; the first one must reach some parameter."""
    (loss if patient.scaler is None else patient.scaler.scale(loss)).backward()
    if is_first:
        check_reached(patient.model.parameters(), f"loss_fn(output, target), batch {at}")


def _step(patient: Patient, parameters: list[nn.Parameter], norms: _Norms | None) -> None:
    """Clip, and step unless the clip left it out: the norm of that gradient is returned unclipped."""
    before = separate_norms(parameters)[0] if norms is not None and patient.clip is not None else ()
    result = patient.clip(parameters) if patient.clip is not None else None
    if getattr(result, "skipped", False):
        if norms is not None:
            norms.add(before)
    elif patient.scaler is None:
        take_step(patient.optimizer)
    else:
        patient.scaler.step(patient.optimizer)
        patient.scaler.update()


@contextmanager
def _measuring(
    patient: Patient, parameters: list[nn.Parameter], norms: _Norms, *, is_on: bool
) -> Generator[None]:  # fmt: skip
    """Norms are read after every hook that the optimizer has before its step, such as a clip."""
    if not is_on:
        yield
        return

    def read(*_: object) -> None:
        norms.add(separate_norms(parameters)[0])

    handle = patient.optimizer.register_step_pre_hook(read)
    try:
        yield
    finally:
        handle.remove()


class _Norms:
    """The norm of all gradients together at each step, from those of each gradient; read in one go every so often."""

    def __init__(self) -> None:
        self._totals: list[float] = []
        self._unread: list[tuple[Tensor, ...]] = []

    def add(self, norms: tuple[Tensor, ...]) -> None:
        self._unread.append(norms)
        if len(self._unread) >= _UNREAD:
            self.read()

    def read(self) -> tuple[float, ...]:
        """Of all steps so far."""
        for count, run in groupby(self._unread, key=len):
            steps = list(run)
            flat = [norm for step in steps for norm in step]
            joined = torch.linalg.vector_norm(torch.stack(flat).view(-1, count), dim=1).tolist() if flat else ()
            self._totals += joined or [0.0] * len(steps)
        self._unread.clear()
        return tuple(self._totals)


def _is_gradient_finite(parameters: list[nn.Parameter]) -> bool:
    """Whether all gradients are; of plain ones in one operation, since small networks wait for every one."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return True
    first = gradients[0]
    if all(g.dtype == torch.float32 and g.device == first.device and g.layout is torch.strided for g in gradients):
        one, found = torch.ones((), device=first.device), torch.zeros((), device=first.device)
        check = torch._amp_foreach_non_finite_check_and_unscale_  # pyright: ignore[reportPrivateImportUsage]
        check(gradients, found, one)  # as torch.amp.GradScaler does
        return not found.item()
    return bool(torch.isfinite(gradient_norms(parameters).total))
