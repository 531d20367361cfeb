"""Notices gradients that are added up over optimizer steps because nobody cleared them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.optim import Optimizer

_STEPS = 3  # so many steps in a row are no accident


class Accumulation:
    """Compares one small gradient with the sum of what backward brought since the last step.

    Several backward passes before a step are accumulation on purpose: their sum is the gradient. If the gradient is
    that sum plus the gradient of the step before, it was not cleared.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None) -> None:
        self.optimizer = optimizer
        trainable = [p for p in model.parameters() if p.requires_grad and not p.is_complex()]
        self.parameter = min(trainable, key=lambda p: p.numel()) if optimizer is not None and trainable else None
        self._brought: Tensor | None = None
        self._left: Tensor | None = None
        self._votes: list[Tensor] = []
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Register the hooks."""
        if self.parameter is not None and self.optimizer is not None:
            self._handles = [
                self.parameter.register_hook(self._bring),
                self.optimizer.register_step_pre_hook(lambda *_: self._vote()),
            ]

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def stepped(self) -> None:
        """A step is done: what is there now must be gone before the next."""
        gradient = self.parameter.grad if self.parameter is not None else None
        is_watched = len(self._votes) < _STEPS
        self._left = gradient.detach().clone() if gradient is not None and is_watched else None
        self._brought = None
        if not is_watched:
            self.remove()

    @property
    def verdict(self) -> bool | None:
        """True if gradients were not cleared in the first steps; None if it could not be seen."""
        if len(self._votes) < _STEPS:
            return None
        return bool(torch.stack(self._votes).all())

    def _bring(self, gradient: Tensor) -> None:
        if len(self._votes) < _STEPS:
            own = gradient.detach()
            self._brought = own.clone() if self._brought is None else self._brought + own

    def _vote(self) -> None:
        gradient = self.parameter.grad if self.parameter is not None else None
        if gradient is None or gradient.is_sparse or self._brought is None or self._left is None:
            return
        kept = (gradient - self._brought - self._left).norm()
        fresh = (gradient - self._brought).norm()
        self._votes.append((self._left.norm() > 0) & (kept < 0.01 * fresh))
