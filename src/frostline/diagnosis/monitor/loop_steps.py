"""What a loop does between two reported losses: whether its optimizer steps, or another one, and by which gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from frostline.diagnosis.probes.own_targets import copies_at_first, still_copy
from frostline.diagnosis.rules.loss_records import OwnTargets
from frostline.diagnosis.rules.wiring_records import LoopFacts

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from frostline.diagnosis.monitor.accumulation import Accumulation

_MODAL = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # that differ between the modes
_FOLLOWED_BY = 200  # steps, after which a copy has followed at least once
_MOST, _FEW = 8, 16  # parameters that are watched, and values of each


class LoopSteps:
    """Knows whether anything has moved what the optimizer holds.

    Args:
        model: Its trainable parameters that the optimizer holds are compared.
        optimizer: None leaves nothing to say.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None) -> None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]} if optimizer is not None else set()
        own = [p for p in model.parameters() if p.requires_grad and id(p) in held]
        self._before = [(parameter, _some(parameter)) for parameter in own[:: max(1, len(own) // _MOST)]]
        self._last = (0, self._version)  # steps, and how often parameters were written, at the report before
        self._others = self._unmoved = 0
        self._model, self._has_trained, self._evaluated = model, False, 0  # reports in a row in evaluation mode
        self._copies = copies_at_first(model)
        sources = tuple(f"{name}." for name in self._copies.values())
        self._start = {name: p.detach().clone() for name, p in model.named_parameters() if name.startswith(sources)}

    @property
    def _version(self) -> int:
        return sum(parameter._version for parameter, _ in self._before)

    def look(self, num_steps: int) -> None:
        """At a report: whether a parameter was written since the last, though the optimizer has not stepped.

        Args:
            num_steps: Of the optimizer.
        """
        (steps, version), self._last = self._last, (num_steps, self._version)
        self._others += num_steps == steps and self._last[1] != version
        if self._last[1] != version:
            self._unmoved = 0
        elif num_steps > steps:
            self._unmoved += 1
        self._has_trained |= self._model.training
        self._evaluated = 0 if self._model.training else self._evaluated + self._has_trained

    def facts(self, reported: int, num_steps: int, accumulation: Accumulation) -> LoopFacts | None:
        """After so many losses, and steps of the optimizer; None without one.

        Args:
            reported: Losses.
            num_steps: Of the optimizer.
            accumulation: What is known of the gradients of its steps.
        """
        if not self._before:
            return None
        has_moved = num_steps > 0 or not all(torch.equal(_some(one), values) for one, values in self._before)
        silent = tuple(
            name for name, one in self._model.named_modules() if isinstance(one, _MODAL) and not one.training
        )
        return LoopFacts(
            reported, num_steps, has_moved, accumulation.cleared, self._others, self._evaluated, silent, self._unmoved
        )

    def own_targets(self, num_steps: int) -> OwnTargets | None:
        """A copy of a part that trains, which stays as it began; None without one, or after few steps.

        Args:
            num_steps: Of the optimizer.
        """
        found = still_copy(self._model, self._copies, self._start) if num_steps >= _FOLLOWED_BY else ("", "")
        return OwnTargets(copy=found[0], source=found[1]) if found[0] else None


def _some(parameter: Tensor) -> Tensor:
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _FEW)].clone()
