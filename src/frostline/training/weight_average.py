"""An exponential moving average of the weights that train, which is what is judged and kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from frostline.core.layers import is_pinned

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn


class WeightAverage:
    """The average of what trains now, and of running statistics, by torch's own formula.

    Args:
        model: The user's model.
        decay: The share of the average that a step keeps.
        average: By name in the model; tensors that it lacks begin with their value after the next step.
    """

    def __init__(self, model: nn.Module, decay: float, average: dict[str, Tensor]) -> None:
        self._average, self._update = average, get_ema_multi_avg_fn(decay)
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        # a forward pass may put another tensor into the place of a buffer; frozen layers keep theirs
        self._places = [
            (f"{path}.{leaf}" if path else leaf, module, leaf)
            for path, module in model.named_modules() if not is_pinned(module)
            for leaf, buffer in module._buffers.items()
            if buffer is not None and buffer.is_floating_point() and buffer.layout is torch.strided
        ]  # fmt: skip
        for name, value in self._current().items():
            if name in average:  # a checkpoint was read to the CPU
                average[name] = average[name].to(value.device)

    def _current(self) -> dict[str, Tensor]:
        buffers = {name: module._buffers[leaf] for name, module, leaf in self._places}
        found = {**self._parameters, **{name: value for name, value in buffers.items() if value is not None}}
        return {name: value.detach() for name, value in found.items()}

    def follow(self) -> None:
        """Take the weights that a step has left into the average."""
        now = self._current()
        for name in now.keys() - self._average.keys():
            self._average[name] = now[name].clone()
        kinds = {(value.dtype, value.device) for value in now.values()}
        for kind in kinds:
            names = [name for name, value in now.items() if (value.dtype, value.device) == kind]
            self._update([self._average[name] for name in names], [now[name] for name in names], 1)

    @contextmanager
    def in_place(self) -> Generator[None]:
        """Inside, the model has the average; after it, the weights that train."""
        now = {name: value for name, value in self._current().items() if name in self._average}
        kept = {name: value.clone() for name, value in now.items()}
        with torch.no_grad():
            try:
                for name, value in now.items():
                    value.copy_(self._average[name])
                yield
            finally:
                for name, value in now.items():
                    value.copy_(kept[name])
