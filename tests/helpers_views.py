"""Datasets whose items are random: each draws from one source of chance."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

D, N = 6, 10
GLOBAL = np.random.default_rng()

DRAWS: dict[str, Callable[[Any], float]] = {
    "python": lambda own: random.random(),
    "numpy": lambda own: np.random.rand(),
    "numpy normal": lambda own: np.random.randn(),
    "torch": lambda own: torch.randn(()),
    "a global": lambda own: GLOBAL.random(),
    "numpy generator": lambda own: own.rng.random(),
    "numpy before 1.17": lambda own: own.old.randn(),
    "python generator": lambda own: own.python.gauss(0, 1),
    "torch generator": lambda own: torch.randn((), generator=own.torch),
    "made when it is read": lambda own: own.lazy().random(),
    "two at once": lambda own: random.gauss(0, 1) + own.rng.normal() + np.random.randint(9),
}


class Random(Dataset):
    """Items that differ with every read.

    Args:
        name: Of the source of chance.
        count: Samples.
    """

    def __init__(self, name: str = "torch", count: int = N) -> None:
        generator = torch.Generator().manual_seed(3)
        self.inputs, self.name = torch.randn(count, D, generator=generator), name
        self.rng, self.old, self.python = np.random.default_rng(), np.random.RandomState(), random.Random()
        self.torch = torch.Generator()
        self.torch.seed()
        self.made = None

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index] + float(DRAWS[self.name](self)), index % 4

    def lazy(self):
        if self.made is None:
            self.made = np.random.default_rng()
        return self.made


class Keyed(Random):
    """The same with keys of its samples: the numbers from `start` on."""

    fingerprint = "plus a number"

    def __init__(self, name: str = "torch", count: int = N, start: int = 0) -> None:
        super().__init__(name, start + count)
        self.start = start

    def __len__(self):
        return super().__len__() - self.start

    def __getitem__(self, index):
        return super().__getitem__(index + self.start)

    def sample_key(self, index):
        return (index + self.start).to_bytes(16, "little")

    def target(self, index):
        return (index + self.start) % 4


class Unseedable(Random):
    """Its chance comes from the operating system."""

    def __getitem__(self, index):
        return self.inputs[index] + int.from_bytes(os.urandom(2), "little"), index % 4
