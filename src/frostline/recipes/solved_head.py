"""A head whose output layer is solved in closed form: where a sweep has one, and where `fit` starts from one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frostline.core import inputs as batches
from frostline.core.restore import kept_buffers, kept_modes, seed_generators
from frostline.recipes.model_precision import precision_of
from frostline.selection import LinearSolution, solve_linear_head
from frostline.splitting import copied_head
from frostline.training import in_dtype, loss_of, make_loss, num_counted, output_of

if TYPE_CHECKING:
    from frostline.recipes.training_setup import Ready, TrainingSetup
    from frostline.training import Progress


_START = 8  # batches on which the solved layer is compared with the one that the model has


def solve_head(
    module: nn.Module, data: Iterable[tuple[Any, Any]], loss: Any, weight_decay: float | None = None, *,
    in_training: bool = False,
) -> LinearSolution:  # fmt: skip
    """The output layer that minimises a loss over batches, all else as it is; the module does not change.

    Args:
        module: A head, or a model.
        data: Batches of (inputs, target), as often as they are iterated.
        loss: As `fit` takes it: ridge regression for `mse`, L-BFGS for any other.
        weight_decay: On standardised features; None is 1 / number of rows.
        in_training: Features are those of the module in training mode, without dropout.

    Raises:
        DataError: If the output is not that of one linear layer on vectors, or the targets cannot be used.
    """
    is_squared = loss == "mse" or (type(loss) is nn.MSELoss and loss.reduction == "mean")
    return solve_linear_head(
        copied_head(module), data, loss=make_loss(loss), is_squared=is_squared, counted=partial(num_counted, loss),
        pick=output_of, weight_decay=weight_decay, in_training=in_training,
    )  # fmt: skip


def start_solved(init_head: str | None, ready: Ready, setup: TrainingSetup, *, run: Progress) -> None:
    """Give a module the output layer that is best on its features as training sees them; training starts from there.

    The layer stays as it is where the first batches have a higher loss with the solved one, in training mode and with
    noise. Nothing happens where `init_head` is None, or the run has epochs behind it. Generators are seeded anew after
    it.

    References:
        Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, section 3.
    """
    if init_head is None or run.history:
        return
    data = _Converted(ready.train, setup.fabric.device, precision_of(ready.module))
    solution = solve_head(ready.module, data, setup.loss, in_training=True)
    trial = copied_head(ready.module)
    own = _start_loss(trial, data, setup)
    solution.put_into(trial)
    solved = _start_loss(trial, data, setup)
    if is_better := solved <= own:
        solution.put_into(ready.module)
    seed_generators(setup.seed)
    if not setup.progress:
        return
    what = f"was solved over {solution.num_rows} rows, loss {solution.loss:.4f}"
    if not is_better:
        what = f"stays as it is: solved, it has a loss of {solved:.4f} in the first training batches, else {own:.4f}"
    unfinished = "" if solution.is_converged else " (L-BFGS has not converged)"
    sys.stderr.write(f"init_head: the layer {solution.layer!r} {what}{unfinished}\n")


def _start_loss(module: nn.Module, data: Iterable[tuple[Any, Any]], setup: TrainingSetup) -> float:
    """The mean loss of the first batches in training mode; the module is a copy, whose statistics may move."""
    seed_generators(setup.seed)
    loss, total, count = make_loss(setup.loss), 0.0, 0
    with torch.no_grad(), kept_modes(module), kept_buffers(module):
        module.train()
        for inputs, target in islice(data, _START):
            size = num_counted(setup.loss, target)
            if size:
                output = batches.call(module, inputs)
                total += float(loss_of(loss, output, batches.move(target, setup.fabric.device))) * size
                count += size
    return total / max(count, 1)


@dataclass(frozen=True)
class _Converted:
    """Batches of the first epoch, and so of the first view, as often as they are iterated.

    Their inputs are where the model is, in its precision: mixed precision stores features of another one.
    """

    data: Any
    device: torch.device
    dtype: torch.dtype | None

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        if hasattr(self.data, "epoch"):
            self.data.epoch = 0
        for inputs, target in self.data:
            yield in_dtype(batches.move(inputs, self.device), self.dtype or torch.float32), target


def start_text(init_head: str | None, views: int | None = None, *, by_length: bool = False) -> dict[str, Any]:
    """Settings that a resumed run must have as well, where they are used; earlier versions did not record them."""
    given = {"init_head": init_head, "views": views, "by_length": by_length or None}
    return {name: value for name, value in given.items() if value is not None}
