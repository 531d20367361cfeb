"""Hooks that look at a model on sampled steps, and are gone when they are removed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.health.layers import Found, find_layers
from frostline.health.statistics import can_die, can_saturate, first_tensor, is_active, moments, saturation, units_of

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW = 5  # sampled steps over which a unit must be silent to count as dead
_MAX_ROOMS = 16  # shapes for which memory is kept
_MAX_WAITING = 2**20  # values that wait to be measured together: 4 MB


@dataclass(frozen=True)
class _Waiting:
    name: str
    activation: str
    values: Tensor  # (N, U)


class Outputs:
    """What the layers of a model gave at one sampled step; tensors stay on the device."""

    def __init__(self) -> None:
        self.moments: dict[str, Tensor] = {}
        self.dead: dict[str, Tensor] = {}
        self.saturated: dict[str, Tensor] = {}
        self.input_rows: Tensor | None = None  # True where a sample of the model's input is finite


class Watch:
    """Looks at the outputs of the layers. Its hooks are there on sampled steps only, since each costs time every step.

    Args:
        model: The model without wrappers.
        timed: Runs a piece of work of ours and counts its seconds.
    """

    def __init__(self, model: nn.Module, timed: Callable[[Callable[[], None]], None]) -> None:
        self.model, self.timed = model, timed
        self.found = find_layers(model)
        self.order: dict[str, int] = {}
        self.outputs = Outputs()
        self.input: Tensor | None = None
        self._seen: set[str] = set()
        self._waiting: list[_Waiting] = []
        self._num_waiting = 0
        self._room: dict[Any, Tensor] = {}  # on a CPU, fresh memory costs more than what is done with it
        self._silent: dict[str, deque[Tensor]] = {}
        self._is_channels_first = False
        self._is_training_pass: bool | None = None  # None outside of the model's own forward
        self._handles: list[Any] = []
        self._hooks = [(found.module, self._hook_of(found)) for found in self.found]

    def attach(self) -> None:
        """Register the hooks, if they are not there."""
        if not self._handles:
            self._handles = [module.register_forward_hook(hook) for module, hook in self._hooks]
            self._handles.append(self.model.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True))
            self._handles.append(self.model.register_forward_hook(self._leave, always_call=True))

    def remove(self) -> None:
        """Take every hook off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._is_training_pass = None

    def take(self) -> Outputs:
        """What was seen since the last call."""
        self._measure()
        self._seen.clear()
        seen, self.outputs = self.outputs, Outputs()
        return seen

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._is_training_pass = torch.is_grad_enabled()
        if self._is_training_pass and self.outputs.input_rows is None:
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
        # 0 times a number is 0, 0 times anything else is not: a sum over it is ten times as fast as a search
        self.outputs.input_rows = given.detach().reshape(len(given), -1).mul(0).sum(dim=1) == 0

    def _hook_of(self, found: Found) -> Callable[..., None]:
        name, layer = found.layer.name, found.layer

        def hook(_: nn.Module, __: Any, output: Any) -> None:
            # checkpointed layers run again in the backward pass, shared ones several times: the first time counts
            if not self._is_training() or name in self._seen:
                return
            tensor = first_tensor(output)
            if tensor is not None:
                self.timed(lambda: self._look(name, layer.kind, layer.activation, tensor))

        return hook

    def _look(self, name: str, kind: str, activation: str, output: Tensor) -> None:
        self.order.setdefault(name, len(self.order))
        self._seen.add(name)
        if kind in {"linear", "convolution", "recurrent", "attention"}:
            self._is_channels_first = kind == "convolution"
        with torch.no_grad():
            values = units_of(output, is_channels_first=self._is_channels_first or output.dim() == 4)
            if values.data_ptr() == output.data_ptr():
                values = values.clone()  # the next layer may work in place
        self._waiting.append(_Waiting(name, activation, values))
        self._num_waiting += values.numel()
        if self._num_waiting > _MAX_WAITING:
            self._measure()

    def _measure(self) -> None:
        """Everything that waits, layers of the same shape and activation together."""
        groups: dict[Any, list[_Waiting]] = {}
        for entry in self._waiting:
            values = entry.values
            groups.setdefault((values.shape, values.dtype, values.device), []).append(entry)
        self._waiting, self._num_waiting = [], 0
        with torch.no_grad():
            for group in groups.values():
                values_LNU = self._stacked([entry.values for entry in group])
                for activation in dict.fromkeys(entry.activation for entry in group):
                    self._look_closer(group, activation, values_LNU)
                measured = moments(values_LNU, in_place=True).unbind()
                self.outputs.moments.update(zip([entry.name for entry in group], measured, strict=True))

    def _stacked(self, values: list[Tensor]) -> Tensor:
        if values[0].device.type != "cpu":
            return torch.stack(values)
        key = (len(values), values[0].shape, values[0].dtype)
        room = self._room.get(key)
        made = torch.stack(values, out=room) if room is not None else torch.stack(values)
        if len(self._room) < _MAX_ROOMS:
            self._room[key] = made
        return made

    def _look_closer(self, group: list[_Waiting], activation: str, values_LNU: Tensor) -> None:
        """What only some activations have: dead units, flat ends."""
        if not can_die(activation) and not can_saturate(activation):
            return
        places = [at for at, entry in enumerate(group) if entry.activation == activation]
        chosen = [group[at] for at in places]
        if can_die(activation):
            self._count_dead(chosen, is_active(values_LNU)[places])
        flat = saturation(values_LNU[places], activation)
        if flat is not None:
            self.outputs.saturated.update(zip([entry.name for entry in chosen], flat.unbind(), strict=True))

    def _count_dead(self, group: list[_Waiting], active_LU: Tensor) -> None:
        windows: dict[int, list[str]] = {}
        for entry, active_U in zip(group, active_LU.unbind(), strict=True):
            past = self._silent.setdefault(entry.name, deque(maxlen=_WINDOW))
            past.append(active_U)
            if len({len(active) for active in past}) == 1:
                windows.setdefault(len(past), []).append(entry.name)
        for count, names in windows.items():
            rows = torch.stack([active for name in names for active in self._silent[name]])
            alive_LU = rows.view(len(names), count, -1).any(dim=1)
            dead = 1.0 - alive_LU.to(group[0].values.dtype).mean(dim=-1)
            self.outputs.dead.update(zip(names, dead.unbind(), strict=True))
