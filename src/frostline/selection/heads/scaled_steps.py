"""Steps of one optimizer for many heads, each with its own learning rate and weight decay.

The steps of SGD, Adam, AdamW and RMSprop are proportional to the learning rate, and weight decay adds to the gradient
or shrinks the weights beforehand. So torch's own optimizer takes its step at a learning rate of 1 on tensors of zeros
that get the heads' gradients: what then stands in these tensors is added to the weights, scaled by each head's rate.
One call of the optimizer serves all heads. Considered: one parameter group for each head, whose calls take longer than
the product of 16 linear heads.

Legend: K heads, along one axis of every parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from frostline.selection.head_settings import HeadSetting
    from frostline.selection.heads.contract import MakeOptimizer


@dataclass
class _Group:
    """The heads of one optimizer.

    Attributes:
        name: Of the optimizer.
        places: Of its heads along the axis; None if they are all.
        moves: A tensor of zeros for each parameter, which the optimizer steps.
        optimizer: Over these.
        rates: Learning rates, shaped for each parameter, as are the next two.
        decays: Weight decays that add to the gradient; none if all are 0.
        shrinks: What a decoupled weight decay multiplies the weights by; none if all are 1.
    """

    name: str
    places: Tensor | None
    moves: list[Tensor]
    optimizer: Optimizer
    rates: list[Tensor]
    decays: list[Tensor]
    shrinks: list[Tensor]


class ScaledSteps:
    """Steps over parameters that hold K heads.

    Args:
        parameters: Leaves with a gradient; their axis `axis` counts the heads.
        axis: That axis.
        settings: Of the heads, in order; their optimizers are given by name.
        make: Makes an optimizer.
    """

    def __init__(
        self, parameters: Sequence[Tensor], axis: int, settings: Sequence[HeadSetting], make: MakeOptimizer
    ) -> None:
        self.parameters, self.axis, self._make = list(parameters), axis, make
        self._groups = self._grouped(settings)

    def step(self) -> None:
        """Step every head by its gradient, which is dropped."""
        with torch.no_grad():
            for group in self._groups:
                self._step_group(group)
        for parameter in self.parameters:
            parameter.grad = None

    def keep(self, parameters: Sequence[Tensor], places: Sequence[int], settings: Sequence[HeadSetting]) -> None:
        """Go on with the heads at these places, which now are these parameters; the optimizers remember theirs."""
        before = self._groups
        self.parameters = list(parameters)
        self._groups = self._grouped(settings)
        for group in self._groups:
            old = next(one for one in before if one.name == group.name)
            held = list(range(old.moves[0].shape[self.axis])) if old.places is None else old.places.tolist()
            kept = [held.index(place) for place in places if place in held]
            index = torch.tensor(kept, device=old.moves[0].device)
            for one, other in zip(old.moves, group.moves, strict=True):
                group.optimizer.state[other] = {
                    key: value.index_select(self.axis, index)
                    if isinstance(value, Tensor) and value.shape == one.shape else value
                    for key, value in old.optimizer.state[one].items()
                }  # fmt: skip

    def _grouped(self, settings: Sequence[HeadSetting]) -> list[_Group]:
        names = list(dict.fromkeys(str(setting.optimizer) for setting in settings))
        groups: list[_Group] = []
        for name in names:
            chosen = [at for at, setting in enumerate(settings) if setting.optimizer == name]
            like = self.parameters[0]
            places = None if len(names) == 1 else torch.tensor(chosen, device=like.device)
            moves = [torch.zeros_like(self._own(p, places)).requires_grad_() for p in self.parameters]
            optimizer = self._make(name, moves, 1.0, None)
            decay = float(optimizer.param_groups[0].get("weight_decay", 0.0))
            for group in optimizer.param_groups:
                group["weight_decay"] = 0.0
            decays = [decay if (own := settings[at].weight_decay) is None else own for at in chosen]
            rates = [settings[at].lr for at in chosen]
            is_decoupled = isinstance(optimizer, torch.optim.AdamW)
            is_decayed = any(decays)
            groups.append(_Group(
                name, places, moves, optimizer, self._shaped(rates),
                self._shaped(decays) if is_decayed and not is_decoupled else [],
                self._shaped([1 - lr * decay for lr, decay in zip(rates, decays, strict=True)])
                if is_decayed and is_decoupled else [],
            ))  # fmt: skip
        return groups

    def _step_group(self, group: _Group) -> None:
        weights = [self._own(parameter, group.places) for parameter in self.parameters]
        for at, (weight, parameter, move) in enumerate(zip(weights, self.parameters, group.moves, strict=True)):
            gradient = None if parameter.grad is None else self._own(parameter.grad, group.places)
            if gradient is not None and group.decays:
                gradient = gradient.addcmul(group.decays[at], weight)
            move.grad = gradient
        group.optimizer.step()
        for at, (weight, parameter, move) in enumerate(zip(weights, self.parameters, group.moves, strict=True)):
            if parameter.grad is None:
                continue
            if group.shrinks:
                weight.mul_(group.shrinks[at])
            weight.addcmul_(group.rates[at], move)
            move.zero_()
            if group.places is not None:
                parameter.index_copy_(self.axis, group.places, weight)

    def _own(self, tensor: Tensor, places: Tensor | None) -> Tensor:
        return tensor.detach() if places is None else tensor.detach().index_select(self.axis, places)

    def _shaped(self, values: Sequence[float]) -> list[Tensor]:
        """A value for each head, along the axis of every parameter."""
        return [
            parameter.new_tensor(values).view([-1 if at == self.axis else 1 for at in range(parameter.dim())])
            for parameter in self.parameters
        ]
