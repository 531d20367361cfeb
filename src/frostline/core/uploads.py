"""Copies batches to a GPU while it computes: from pinned memory, on a stream of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from frostline.core.inputs import leaves, map_tensors


class Uploads:
    """A copy stream of one GPU.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device | None) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def upload(self, batch: Any) -> Any:
        """The same batch on the GPU; what is launched next on the current stream waits for the copies.

        Args:
            batch: Tensors in dicts, lists and tuples. Those that are no plain tensors in memory stay as they are.
        """
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            moved = map_tensors(batch, self._copied)
        current.wait_stream(self._stream)
        for tensor in leaves(moved).values():
            if tensor.is_cuda:
                tensor.record_stream(current)  # else its memory could be given out again before it was read
        return moved

    def _copied(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)
