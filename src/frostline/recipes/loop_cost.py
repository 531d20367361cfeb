"""What one step of the training loop costs beside the model: batches, checks, the wrappers of Fabric."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW

from frostline.core.restore import kept_generators
from frostline.training import Settings, make_fabric, run_training

_STEPS, _EPOCHS, _SIZE = 20, 3, 8


class _Batches:
    """The same small batch, again and again."""

    def __init__(self) -> None:
        self.epoch, self.batch_size, self.num_samples = 0, _SIZE, _SIZE * _STEPS
        self.batch = (torch.zeros(_SIZE, 4, device="cpu"), torch.zeros(_SIZE, dtype=torch.long, device="cpu"))

    def __iter__(self) -> Any:
        yield from [self.batch] * _STEPS

    def __len__(self) -> int:
        return _STEPS


@cache
def loop_step_s() -> float:
    """Seconds of a step of the loop, without the model and the optimizer; measured once in a process."""
    with kept_generators(), torch.enable_grad():
        model, data = nn.Linear(4, 3, device="cpu", dtype=torch.float32), _Batches()
        optimizer = AdamW(model.parameters(), lr=0.0)
        settings = Settings(
            loss=cross_entropy, metrics={}, epochs=_EPOCHS, clip=None, patience=None, out=None, resume=None,
            described={}, progress=False,
        )  # fmt: skip
        fabric = make_fabric("32-true", 1, None)
        done = run_training(fabric, model, model, optimizer, None, data, None, settings)
        whole_s = min(epoch.elapsed_s for epoch in done.history)
        started = time.perf_counter()
        for inputs, target in data:
            cross_entropy(model(inputs.to(fabric.device)), target.to(fabric.device)).backward()
            optimizer.step()
            optimizer.zero_grad()
        return max(0.0, whole_s - (time.perf_counter() - started)) / _STEPS
