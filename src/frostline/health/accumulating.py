"""Notices gradients that are added up over optimizer steps because nobody cleared them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.optim import Optimizer

_STEPS = 3  # so many steps in a row are no accident


class Accumulation:
    """Compares one small gradient, after the first backward pass since a step, with what that pass brought.

    What it holds beyond that is the gradient of the step before, if nobody cleared it. Several passes before a step
    are accumulation on purpose; clipping and unscaling come after the pass, and change nothing here.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None) -> None:
        self.optimizer = optimizer
        held = {id(p) for group in optimizer.param_groups for p in group["params"]} if optimizer is not None else set()
        own = [p for p in model.parameters() if p.requires_grad and not p.is_complex() and id(p) in held]
        self.parameter = min(own, key=lambda p: p.numel()) if own else None
        self._brought: Tensor | None = None
        self._left: Tensor | None = None
        self._votes: list[Tensor] = []
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Register the hooks."""
        if self.parameter is not None:
            self._handles = [
                self.parameter.register_hook(self._bring),
                self.parameter.register_post_accumulate_grad_hook(self._vote),
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

    def _bring(self, gradient: Tensor) -> None:
        if self._left is not None:
            self._brought = gradient.detach().clone()

    def _vote(self, parameter: Tensor) -> None:
        left, brought, gradient = self._left, self._brought, parameter.grad
        self._left = self._brought = None
        if left is None or brought is None or gradient is None or brought.is_sparse:
            return
        fresh = gradient.detach() - brought
        self._votes.append((left.norm() > 0) & ((fresh - left).norm() < 0.01 * fresh.norm()))
