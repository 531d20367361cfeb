"""The processes that train one model together: each on its part of every batch, with the gradients of all of them."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.restore import kept_generators, kept_modes, seed_generators
from frostline.training.outputs import tensors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import Tensor

_SAME = 1e-6  # of a sum of weights: all processes make the same steps, to the bit
_TOLERANCE = 1e-3  # of the loss: rounding of sums over halves is far below, what a batch decides far above


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        fabric: Lightning Fabric; it has joined them.
        rank: Of this process, counted from 0.
        count: How many there are.
    """

    fabric: Any = None
    rank: int = 0
    count: int = 1

    @staticmethod
    def of(fabric: Any) -> Ranks:
        """Those that Fabric has joined."""
        return Ranks(fabric, fabric.global_rank, fabric.world_size)

    @property
    def is_first(self) -> bool:
        """True in the process that validates, writes files and prints."""
        return self.rank == 0

    def begin_epoch(self, seed: int, epoch: int) -> None:
        """Seed the noise of the processes beside the first: each has its own, the same after a run is resumed.

        The first goes on with the noise that a process alone has, and that a checkpoint holds.
        """
        if not self.is_first:
            seed_generators((seed * 1_000_003 + epoch * 4_099 + self.rank) % 2**63)

    def has_rows(self, num_samples: int, batch_size: int, batch: int) -> bool:
        """False if this process has a stand-in only of a batch: one with fewer samples than there are processes."""
        return self.rank < min(batch_size, num_samples - batch * batch_size)

    def joined(self, loss: Tensor, mass: float, count: int) -> tuple[Tensor, float, int]:
        """(the loss of the whole batch, the factor of this process's loss in it, what the whole batch counts).

        Gradients are averaged over the processes, so that the factors of all of them add up to their number.

        Args:
            loss: A mean over this process's part.
            mass: What it is divided by.
            count: What this part counts in the mean of an epoch.
        """
        own = loss.detach().double()
        sums = torch.stack([own * mass, own.new_tensor(mass), own.new_tensor(count)])
        value, whole, counted = self.fabric.all_reduce(sums, reduce_op="sum").tolist()
        mean = own.new_tensor(value / whole if whole else 0.0).to(loss.dtype)
        return mean, self.count * mass / whole if whole else 0.0, round(counted)

    def told(self, value: Any) -> Any:
        """What the first process has, in all of them."""
        return value if self.count == 1 else self.fabric.broadcast(value)

    def exchanged(self, own: Any) -> list[Any]:
        """What each of them gives, in order of their numbers."""
        if self.count == 1:
            return [own]
        return [self.fabric.broadcast(own if rank == self.rank else None, rank) for rank in range(self.count)]

    def check_same(self, model: nn.Module, epoch: int) -> None:
        """Raise if the weights that train are not the same in all processes.

        Raises:
            DataError: It names the first that differs.
        """
        if self.count == 1:
            return
        named = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        sums = self.exchanged([float(p.double().sum()) for p in named.values()])
        for name, *found in zip(named, *sums, strict=True):
            if max(found) - min(found) > _SAME * max(1.0, *map(abs, found)):
                raise DataError(
                    what="The processes that train together have come to different weights.",
                    where=f"{name}, after epoch {epoch}", received=f"sums {', '.join(f'{own:.8g}' for own in found)}",
                    do="let callbacks, the loss and the model do the same in each process: decide by run.epoch and "
                    "run.step, not by time, by chance or by the samples of one of them; or use devices=1.",
                )  # fmt: skip


def check_parts(
    ranks: Ranks, module: nn.Module, loss: Callable[[Any, Any], Any], data: Any, mass: Callable[[Any], float]
) -> None:  # fmt: skip
    """Raise if the loss of a batch is not the mean over its parts, as what several processes compute is.

    Args:
        ranks: The processes; for one there is nothing to check.
        module: What is called on a batch.
        loss: callable(output, target) -> scalar.
        data: Batches of (inputs, target), whole ones.
        mass: callable(target) -> what that loss is divided by.

    Raises:
        DataError: If a layer that trains, or the loss, reads the whole batch.
    """
    if ranks.count == 1:
        return
    devices = f"fit(devices={ranks.count})"
    with kept_modes(module.train()):
        for name, layer in module.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
                raise DataError(
                    what="A BatchNorm that trains would normalise by the statistics of a part of each batch.",
                    where=f"{name} ({type(layer).__name__}), {devices}",
                    received=f"{ranks.count} parts of each batch",
                    do="freeze it with its statistics (frostline.freeze(model, patterns='...')), use a GroupNorm or "
                    "LayerNorm in its place, or use devices=1. torch's SyncBatchNorm, which gathers statistics, runs "
                    "on GPUs only.",
                )  # fmt: skip
            if isinstance(layer, nn.modules.dropout._DropoutNd):
                layer.eval()
        inputs, target = next(iter(data))
        inputs, target = (batches.move(own, ranks.fabric.device) for own in (inputs, target))
        size = batches.batch_size(inputs)
        if size < 2:
            return

        def of(rows: slice) -> tuple[float, float]:
            own = _rows(target, rows, size)
            with torch.no_grad(), ranks.fabric.autocast():
                value = loss(batches.call(module, batches.rows(inputs, rows)), own)
            return float(value), mass(own)

        with kept_generators(), _kept_buffers(module):
            (whole, _), (again, _) = of(slice(None)), of(slice(None))
            parts = [of(slice(size // 2)), of(slice(size // 2, None))]
        total = sum(own for _, own in parts)
        mean = sum(value * own for value, own in parts if own) / total if total else whole
        if whole != again or not math.isfinite(whole) or abs(mean - whole) <= _TOLERANCE * max(abs(whole), 1e-3):
            return  # noise that is no dropout hides the rest
        raise DataError(
            what="The loss of a batch is not the mean over its samples, so that devices cannot share a batch.",
            where=devices, received=f"{whole:.6g} of {size} samples, {mean:.6g} as the mean over two halves",
            do="return a mean over samples from the loss; use devices=1 for a loss that compares samples with each "
            "other, or for layers that read the whole batch.",
        )  # fmt: skip


def _rows(target: Any, rows: slice, size: int) -> Any:
    return batches.map_tensors(target, lambda x: x[rows] if x.dim() and len(x) == size else x)


@contextmanager
def _kept_buffers(module: nn.Module) -> Generator[None]:
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


def nothing(output: Any) -> Tensor:
    """A loss of a batch in which nothing counts: 0, whose gradients are 0."""
    tensors = [tensor for tensor in tensors_of(output).values() if tensor.requires_grad]
    return torch.stack([torch.nan_to_num(tensor).sum() for tensor in tensors]).sum() * 0.0
