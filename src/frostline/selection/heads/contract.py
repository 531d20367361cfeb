"""What trains several heads on the same batches, however it computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor
from torch.optim import Optimizer

from frostline.selection.head_settings import HeadSetting

Features = tuple[Tensor, ...]
# (outputs whose tensors have the heads on their last axis, target) -> (K,) losses, each as of its head alone
JointLoss = Callable[[Any, Any], Tensor]
Loss = Callable[[Any, Any], Tensor]
# (name or callable, parameters, learning rate, weight decay: None is the optimizer's own)
MakeOptimizer: TypeAlias = "Callable[[Any, list[Any], float, float | None], Optimizer]"


@dataclass(frozen=True)
class Ways:
    """What heads are trained with.

    Attributes:
        loss: callable(output, target) -> scalar.
        joint_loss: The same for several heads at once.
        make_optimizer: Makes an optimizer over given parameters.
        pick: callable(output) -> the tensor in it that a loss by name takes.
    """

    loss: Loss
    joint_loss: JointLoss
    make_optimizer: MakeOptimizer
    pick: Callable[[Any], Tensor]


class Heads(ABC):
    """Several heads of one architecture, trained side by side.

    Attributes:
        settings: Of the heads that are trained, in order.
        way: `flat`, `stacked` or `looped`.
    """

    way: str

    def __init__(self, settings: Sequence[HeadSetting]) -> None:
        self.settings = list(settings)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the heads, in order."""
        return [setting.number for setting in self.settings]

    @abstractmethod
    def step(self, features: Features, target: Any) -> Tensor:
        """Take a step with every head; (K,) losses before the step, detached."""

    @abstractmethod
    def evaluate(self, features: Features, target: Any) -> tuple[Tensor, list[Any]]:
        """((K,) losses, output of each head) in evaluation mode, without gradients."""

    @abstractmethod
    def state(self, at: int) -> dict[str, Tensor]:
        """Copies of what training changes in one head, by name in it: trainable parameters, buffers."""

    @abstractmethod
    def keep(self, places: Sequence[int]) -> None:
        """Go on with the heads at these places only, in this order."""
