"""Hooks that look at a model on sampled steps, and are gone when they are removed.

The hook of a layer copies some of its output (`units_of`), and does nothing else: what is made of the copies of several
samples, at once, is in `sampling.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from frostline.core.inputs import leaves
from frostline.diagnosis.monitor.layers import Found, find_layers
from frostline.diagnosis.monitor.statistics import first_tensor, units_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.monitor.overhead import Account

_TIMED = 4  # clocks cost as much as the rest of a hook: that of one layer stands for those of the next three


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
        self.heads: frozenset[str] | None = None  # layers whose output is the model's, or a part of it
        # Layers by the place of their output in memory, which is held so that no other gets it, until heads are known.
        self._places: dict[int, tuple[str, Tensor]] = {}
        self.input: Tensor | None = None
        self._outputs = Outputs()
        self._is_channels_first = False
        self._is_training_pass: bool | None = None  # None outside of the model's own forward
        self._handles: list[RemovableHandle] = []
        # A handle is made once: to make one takes longer than to put a hook on.
        self._hooks: list[tuple[nn.Module, int, Callable[..., None]]] = []
        for at, entry in enumerate(self.found):
            hook = self._hook_of(entry)
            if at % _TIMED == 0:
                hook = self._timed(hook, times=min(_TIMED, len(self.found) - at))
            self._hooks.append((entry.module, RemovableHandle(entry.module._forward_hooks).id, hook))

    def attach(self, *, only_input: bool = False) -> None:
        """Register the hooks, if they are not there; only that of the model's input costs a sixth."""
        if self._handles:
            return
        self._handles.append(self.model.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True))
        if not only_input:
            for module, key, hook in self._hooks:
                module._forward_hooks[key] = hook
            self._handles.append(self.model.register_forward_hook(self._leave, always_call=True))

    def remove(self) -> None:
        """Take every hook off."""
        for module, key, _ in self._hooks:
            module._forward_hooks.pop(key, None)
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
            dtype = torch.float32 if given.dtype.itemsize < 4 else None  # in half precision the sum would be too large
            rows = self.input if given.dim() == 2 else self.input.reshape(len(given), -1)
            self._outputs.input_sums = rows.sum(dim=1, dtype=dtype)
        self._account.own(started)

    def _leave(self, _: nn.Module, __: Any, output: Any) -> None:
        self._is_training_pass = None
        if self.heads is None and self._places:
            self._places.pop(0, None)
            given = leaves(output).values() if isinstance(output, (Tensor, Mapping, tuple, list)) else ()
            known = (self._places.get(_place(tensor)) for tensor in given)
            self.heads = frozenset(entry[0] for entry in known if entry is not None)
            self._places.clear()

    def _is_training(self) -> bool:
        # Inside, parts may switch gradients off: frozen ones, and reentrant checkpoints, which run again in the
        # backward pass, from the last to the first.
        return torch.is_grad_enabled() if self._is_training_pass is None else self._is_training_pass

    def _timed(self, hook: Callable[..., None], *, times: int) -> Callable[..., None]:
        def timed(*seen: Any) -> None:
            started = self._account.clock()
            hook(*seen)
            self._account.own(started, times=times)

        return timed

    def _hook_of(self, found: Found) -> Callable[..., None]:
        name, has_weights, is_convolution = found.layer.name, found.layer.has_weights, found.layer.kind == "convolution"

        def hook(_: nn.Module, __: Any, output: Any) -> None:
            # checkpointed layers run again in the backward pass, shared ones several times: the first time counts
            values = self._outputs.values
            if name in values or not self._is_training():
                return
            tensor = first_tensor(output)
            if tensor is not None:
                if name not in self.order:
                    self.order[name] = len(self.order)
                    if self.heads is None:
                        self._places[_place(tensor)] = name, tensor.detach()
                if has_weights:
                    self._is_channels_first = is_convolution
                values[name] = units_of(tensor, is_channels_first=self._is_channels_first or tensor.dim() == 4)

        return hook


def _place(tensor: Tensor) -> int:
    """Where it lies in memory; 0 where it has no such place."""
    try:
        return tensor.data_ptr()
    except RuntimeError:  # sparse, or seen by torch.vmap
        return 0
