"""Short trainings on copies: the same batches from the same start, once as it is and once with one factor undone.

A trial answers the question that symptoms cannot: would the network train if this one thing were different?
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.norms import gradient_norms
from frostline.core.restore import kept_generators, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.optim import Optimizer

    from frostline.health.monitor import Monitor

Batch = tuple[Any, Any]


@dataclass
class Patient:
    """A model in training: what a treatment may change.

    Attributes:
        model: The network.
        optimizer: Over its trainable parameters.
        clip: Called with the parameters before each step, or None.
    """

    model: nn.Module
    optimizer: Optimizer
    clip: Callable[[list[nn.Parameter]], Any] | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def copy(self) -> Patient:
        """A twin with weights, statistics and optimizer state of its own.

        Raises:
            DataError: If the model cannot be copied.
        """
        try:
            model, optimizer = copy.deepcopy((self.model, self.optimizer))
        except (RuntimeError, TypeError) as error:
            raise DataError(
                what="The model cannot be copied, so nothing can be tried on it.", where=type(self.model).__name__,
                received=f"{type(error).__name__}: {error}",
                do="keep no tensors with a gradient history and no open files on the model; or use frostline.Monitor.",
            ) from error  # fmt: skip
        return Patient(model, optimizer, copy.deepcopy(self.clip))


def train(
    patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *, monitor: Monitor | None = None,
) -> tuple[float, ...]:  # fmt: skip
    """Train on these batches in order; the same noise in every trial. Returns the gradient norm of every step.

    Raises:
        DataError: If the loss is not a scalar, or backward cannot run.
    """
    norms: list[Tensor] = []
    with kept_generators(), torch.enable_grad():
        seed_generators(0)
        for at, (inputs, target) in enumerate(data):
            patient.optimizer.zero_grad()
            loss = loss_fn(batches.call(patient.model, inputs), target)
            _check_loss(loss, at)
            loss.backward()
            norms.append(gradient_norms(patient.parameters).total)
            clipped = patient.clip(patient.parameters) if patient.clip is not None else None
            if not getattr(clipped, "skipped", False):
                patient.optimizer.step()
            if monitor is not None:
                monitor.step(loss)
    return tuple(torch.stack(norms).tolist()) if norms else ()


def _check_loss(loss: Any, at: int) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise DataError(
            what="The loss is not a scalar.", where=f"loss_fn(output, target), batch {at}",
            received=batches.describe(loss), do="return the mean over the samples, one number.",
        )  # fmt: skip
    if not loss.requires_grad:
        raise DataError(
            what="The loss does not depend on any trainable parameter: backward cannot run.",
            where=f"loss_fn(output, target), batch {at}", received="a loss without requires_grad",
            do="keep the model's output in the graph (no detach, no torch.no_grad), and thaw some layers.",
        )  # fmt: skip
