"""Hooks that look at a model on sampled steps, and are gone when they are removed.

The hook of a layer copies some of its output (`units_of`), and does nothing else: what is made of the copies of several
samples, at once, is in `sampling.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.health.layers import Found, find_layers
from frostline.health.statistics import first_tensor, units_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.health.accounting import Account
    from frostline.health.records import Layer


class Outputs:
    """What the layers of a model gave at one sampled step; tensors stay on the device."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}  # (N, U) some of the output, by layer
        self.input_sums: Tensor | None = None  # of each sample of the model's input: finite if the sample is


class Watch:
    """Looks at the outputs of the layers. Its hooks are there on sampled steps only, since each costs time every step.

    Args:
        model: The model without wrappers.
        account: Where the time that this takes is counted.
    """

    def __init__(self, model: nn.Module, account: Account) -> None:
        self.model, self._account = model, account
        self.found = find_layers(model)
        self.order: dict[str, int] = {}
        self.input: Tensor | None = None
        self._outputs = Outputs()
        self._is_channels_first = False
        self._is_training_pass: bool | None = None  # None outside of the model's own forward
        self._handles: list[Any] = []
        self._hooks = [(entry.module, self._hook_of(entry)) for entry in self.found]

    def attach(self, *, only_input: bool = False) -> None:
        """Register the hooks, if they are not there; only that of the model's input costs a quarter."""
        if not self._handles:
            hooks = () if only_input else self._hooks
            self._handles = [module.register_forward_hook(hook) for module, hook in hooks]
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
        seen, self._outputs = self._outputs, Outputs()
        return seen

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._is_training_pass = torch.is_grad_enabled()
        if not self._is_training_pass or self._outputs.input_sums is not None:
            return
        started = self._account.clock()
        given = first_tensor([*args, *kwargs.values()])
        if given is not None:
            self.input = given.detach()
            wide = torch.promote_types(given.dtype, torch.float32)  # in half precision the sum would be too large
            self._outputs.input_sums = self.input.reshape(len(given), -1).sum(dim=1, dtype=wide)
        self._account.own(started)

    def _leave(self, *_: Any) -> None:
        self._is_training_pass = None

    def _is_training(self) -> bool:
        # Inside, parts may switch gradients off: frozen ones, and reentrant checkpoints, which run again in the
        # backward pass, from the last to the first.
        return torch.is_grad_enabled() if self._is_training_pass is None else self._is_training_pass

    def _hook_of(self, found: Found) -> Callable[..., None]:
        layer = found.layer

        def hook(_: nn.Module, __: Any, output: Any) -> None:
            # checkpointed layers run again in the backward pass, shared ones several times: the first time counts
            if layer.name in self._outputs.values or not self._is_training():
                return
            started = self._account.clock()
            tensor = first_tensor(output)
            if tensor is not None:
                self._look(layer, tensor)
            self._account.own(started)

        return hook

    def _look(self, layer: Layer, output: Tensor) -> None:
        self.order.setdefault(layer.name, len(self.order))
        if layer.has_weights:
            self._is_channels_first = layer.kind == "convolution"
        is_channels_first = self._is_channels_first or output.dim() == 4
        self._outputs.values[layer.name] = units_of(output, is_channels_first=is_channels_first)
