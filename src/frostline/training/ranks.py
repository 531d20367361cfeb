"""The processes that train one model together: each on its part of every batch, with the gradients of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.restore import seed_generators
from frostline.training.outputs import tensors_of

if TYPE_CHECKING:
    from torch import Tensor


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

    def meet(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            self.fabric.barrier()


def nothing(output: Any) -> Tensor:
    """A loss of a batch in which nothing counts: 0, whose gradients are 0."""
    tensors = [tensor for tensor in tensors_of(output).values() if tensor.requires_grad]
    return torch.stack([torch.nan_to_num(tensor).sum() for tensor in tensors]).sum() * 0.0
