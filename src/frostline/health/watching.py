"""Hooks that look at a model on sampled steps, and are gone when they are removed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.health.layers import Found, find_layers
from frostline.health.statistics import can_die, first_tensor, is_active, moments, saturation, units_of

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW = 5  # sampled steps over which a unit must be silent to count as dead


class Outputs:
    """What the layers of a model gave at one sampled step; tensors stay on the device."""

    def __init__(self) -> None:
        self.moments: dict[str, Tensor] = {}
        self.dead: dict[str, Tensor] = {}
        self.saturated: dict[str, Tensor] = {}
        self.input_rows: Tensor | None = None  # True where a sample of the model's input is finite


class Watch:
    """Looks at the outputs of the layers while `is_on`.

    Args:
        model: The model without wrappers.
        timed: Runs a piece of work of ours and counts its seconds.
    """

    def __init__(self, model: nn.Module, timed: Callable[[Callable[[], None]], None]) -> None:
        self.model, self.timed, self.is_on = model, timed, False
        self.found = find_layers(model)
        self.order: dict[str, int] = {}
        self.outputs = Outputs()
        self.input: Tensor | None = None
        self._silent: dict[str, deque[Tensor]] = {}
        self._is_channels_first = False
        self._is_training_pass: bool | None = None  # None outside of the model's own forward
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Register the hooks."""
        for found in self.found:
            self._handles.append(found.module.register_forward_hook(self._hook_of(found)))
        self._handles.append(self.model.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True))
        self._handles.append(self.model.register_forward_hook(self._leave, always_call=True))

    def remove(self) -> None:
        """Take every hook off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self) -> Outputs:
        """What was seen since the last call."""
        seen, self.outputs = self.outputs, Outputs()
        return seen

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._is_training_pass = torch.is_grad_enabled()
        if self.is_on and self._is_training_pass and self.outputs.input_rows is None:
            given = first_tensor([*args, *kwargs.values()])
            if given is not None:
                self.input = given.detach()
                self.timed(lambda: self._look_at_input(given))

    def _leave(self, *_: Any) -> None:
        self._is_training_pass = None

    def _is_training(self) -> bool:
        # Inside, parts may switch gradients off: frozen ones, and reentrant checkpoints, which run again in the
        # backward pass, from the last to the first.
        return torch.is_grad_enabled() if self._is_training_pass is None else self._is_training_pass

    def _look_at_input(self, given: Tensor) -> None:
        self.outputs.input_rows = torch.isfinite(given.detach()).reshape(len(given), -1).all(dim=1)

    def _hook_of(self, found: Found) -> Callable[..., None]:
        name, layer = found.layer.name, found.layer

        def hook(_: nn.Module, __: Any, output: Any) -> None:
            # checkpointed layers run again in the backward pass, shared ones several times: the first time counts
            if not self.is_on or not self._is_training() or name in self.outputs.moments:
                return
            tensor = first_tensor(output)
            if tensor is not None:
                self.timed(lambda: self._look(name, layer.kind, layer.activation, tensor))

        return hook

    def _look(self, name: str, kind: str, activation: str, output: Tensor) -> None:
        self.order.setdefault(name, len(self.order))
        if kind in {"linear", "convolution", "recurrent", "attention"}:
            self._is_channels_first = kind == "convolution"
        with torch.no_grad():
            values = units_of(output, is_channels_first=self._is_channels_first or output.dim() == 4)
            self.outputs.moments[name] = moments(values)
            if can_die(activation):
                past = self._silent.setdefault(name, deque(maxlen=_WINDOW))
                past.append(is_active(values))
                if len({len(active) for active in past}) == 1:
                    alive = torch.stack(list(past)).any(dim=0)
                    self.outputs.dead[name] = 1.0 - alive.to(values.dtype).mean()
            flat = saturation(values, activation)
            if flat is not None:
                self.outputs.saturated[name] = flat
