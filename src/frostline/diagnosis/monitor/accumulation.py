"""Detects gradients that add up over optimizer steps because they are not cleared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.optim import Optimizer

_STEPS = 3  # so many steps in a row are no accident
_SAME = 0.01  # of the gradient that is left: what rounding leaves of a difference is far smaller


class Accumulation:
    """Compares one small gradient, after the last backward pass before a step, with what was left of the step before.

    What the gradient holds beyond all that the passes since that step have brought is the gradient of that step, if
    it was not cleared. The last pass counts: a loop may clear after other passes have gone through the same weights, as
    that of a GAN does, whose generator is trained through the discriminator. Several passes before a step are
    accumulation on purpose; clipping and unscaling come after the pass, and change nothing here.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None) -> None:
        self.optimizer = optimizer
        held = {id(p) for group in optimizer.param_groups for p in group["params"]} if optimizer is not None else set()
        own = [p for p in model.parameters() if p.requires_grad and not p.is_complex() and id(p) in held]
        self.parameter = min(own, key=lambda p: p.numel()) if own else None
        self._arriving: Tensor | None = None  # what a pass brings, until it has been added to the gradient
        self._brought: Tensor | None = None  # by all passes since the step
        self._left: Tensor | None = None
        self._last: Tensor | None = None  # of these, the last
        self._is_kept: Tensor | None = None  # whether it was still there after the last pass
        self._votes: list[Tensor] = []
        self._passes = 0  # since the step
        self._cleared: list[tuple[int, Tensor]] = []  # (passes before a step, whether it got the last of them alone)
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Register the hooks."""
        if self.parameter is not None:
            self._handles = [
                self.parameter.register_hook(self._arrive),
                self.parameter.register_post_accumulate_grad_hook(self._compare),
            ]

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def is_done(self) -> bool:
        """True if there is nothing more to see."""
        return not self._handles

    def stepped(self) -> None:
        """A step is done: what is there now must be gone before the next."""
        if self._is_kept is not None:
            self._votes.append(self._is_kept)
        if self._last is not None and self.parameter is not None and self.parameter.grad is not None:
            self._cleared.append((self._passes, _is_near(self.parameter.grad.detach(), self._last)))
        self._arriving = self._brought = self._is_kept = self._last = None
        self._passes = 0
        gradient = self.parameter.grad if self.parameter is not None and self._handles else None
        is_done = len(self._votes) >= _STEPS
        is_watched = gradient is not None and not gradient.is_sparse and not is_done
        self._left = gradient.detach().clone() if is_watched and gradient is not None else None
        if is_done:
            self.remove()

    @property
    def verdict(self) -> bool | None:
        """True if gradients were not cleared in the first steps; None if it could not be seen."""
        if len(self._votes) < _STEPS:
            return None
        return bool(torch.stack(self._votes).all())

    @property
    def cleared(self) -> int:
        """The fewest backward passes before a step that got the gradient of the last one alone; 0 if one did not."""
        if len(self._cleared) < _STEPS or not all(bool(is_last) for _, is_last in self._cleared):
            return 0
        return min(passes for passes, _ in self._cleared)

    def _arrive(self, gradient: Tensor) -> None:
        if self._left is not None:
            self._arriving = gradient.detach().clone()

    def _compare(self, parameter: Tensor) -> None:
        left, arrived, gradient = self._left, self._arriving, parameter.grad
        self._arriving = None
        if left is None or arrived is None or gradient is None or arrived.is_sparse or gradient.is_sparse:
            return
        self._passes, self._last = self._passes + 1, arrived
        self._brought = arrived if self._brought is None else self._brought + arrived
        kept = gradient.detach() - self._brought
        self._is_kept = (left.norm() > 0) & ((kept - left).norm() < _SAME * kept.norm())


def _is_near(gradient: Tensor, other: Tensor) -> Tensor:
    return (gradient - other).norm() <= _SAME * other.norm()
