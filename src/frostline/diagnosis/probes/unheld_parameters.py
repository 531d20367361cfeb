"""Parameters that train nowhere: the optimizer does not hold them, and nothing else moves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.diagnosis.monitor.layers import Found

_STEPS = 10  # of the optimizer, after which another, that steps now and then, has had its turn
_FEW = 16  # values that are compared: an optimizer that moves a weight moves all that get a gradient


class Unheld:
    """The trainable parameters that an optimizer does not hold, as they were, and the strangers that it holds.

    Several optimizers may train parts of one model: what any of them has moved is not reported. A part that gets no
    gradient is not trained by this loop, and not reported either.

    Args:
        found: The layers of the model, with their trainable parameters.
        model: All that it has is known, trainable or not.
        optimizer: None leaves nothing to say.
    """

    def __init__(self, found: Sequence[Found], model: nn.Module, optimizer: Optimizer | None) -> None:
        groups = optimizer.param_groups if optimizer is not None else []
        held: dict[int, Tensor] = {id(p): p for group in groups for p in group["params"]}
        own = {id(parameter) for parameter in model.parameters()}
        self._has_optimizer = optimizer is not None
        self._strangers = [parameter for key, parameter in held.items() if key not in own]
        self._before = [
            (entry.layer.name, parameter, parameter._version, _some(parameter))
            for entry in found for parameter in entry.parameters if id(parameter) not in held
        ]  # fmt: skip
        self._has_gradient: set[int] = set()
        self._are_strangers_used = False

    def look(self) -> None:
        """Before a step: which of them have a gradient now."""
        for _, parameter, _, _ in self._before:
            if parameter.requires_grad and parameter.grad is not None:
                self._has_gradient.add(id(parameter))
        self._are_strangers_used |= any(parameter.grad is not None for parameter in self._strangers)

    def layers(self, num_steps: int) -> tuple[str, ...] | None:
        """Layers that get gradients and have not moved in so many steps; None where that is not known."""
        if not self._has_optimizer or num_steps < (_STEPS if self._before else 1):
            return None
        still = [
            name for name, parameter, version, values in self._before
            if id(parameter) in self._has_gradient and parameter.requires_grad and parameter._version == version
            and torch.equal(_some(parameter), values)
        ]  # fmt: skip
        return tuple(dict.fromkeys(still))

    @property
    def holds_strangers(self) -> bool:
        """True if the optimizer holds parameters that are not in the model, and none of these gets a gradient."""
        return bool(self._strangers) and not self._are_strangers_used


def _some(parameter: Tensor) -> Tensor:
    """A few of its values, spread over it."""
    flat = parameter.detach().reshape(-1) if parameter.is_contiguous() else parameter.detach().flatten()
    return flat[:: max(1, flat.numel() // _FEW)].clone()
