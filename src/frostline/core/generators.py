"""Generators of random numbers that somebody holds, beside the global ones."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from frostline.core.digests import tensor_digest

GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator, torch.Generator)


def state_of(generator: Any) -> Any:
    """The state of a generator as something that can be compared later; drawing from it changes the state."""
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, torch.Generator):
        return tensor_digest(generator.get_state())
    if isinstance(generator, np.random.RandomState):
        return repr(generator.get_state())
    return repr(getattr(generator, "bit_generator", generator).state)
