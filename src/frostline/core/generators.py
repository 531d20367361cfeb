"""Generators of random numbers that somebody holds, beside the global ones."""

from __future__ import annotations

import random
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frostline.core.digests import tensor_digest

if TYPE_CHECKING:
    from collections.abc import Generator

GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator, torch.Generator)


def state_of(generator: Any) -> Any:
    """The state of a generator as something that can be compared later; drawing from it changes the state."""
    if isinstance(generator, random.SystemRandom):
        return "the system"  # it has no state
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, torch.Generator):
        return tensor_digest(generator.get_state())
    if isinstance(generator, np.random.RandomState):
        return repr(generator.get_state())
    return repr(getattr(generator, "bit_generator", generator).state)


# A generator of normal numbers draws them in pairs and keeps the second one. Seeding has to clear it, or the first
# number after a seed would be one of before.
def seed_generator(generator: Any, seed: int) -> None:
    """Put one of `GENERATORS` where this seed puts it, whatever it was asked before.

    Args:
        generator: The generator.
        seed: Of 0 or more and below 2**63.
    """
    if isinstance(generator, random.Random):
        generator.seed(seed)
    elif isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.RandomState):
        state: Any = generator.get_state(legacy=False)
        kind = getattr(np.random, state["bit_generator"])
        generator.set_state({**kind(seed).state, "has_gauss": 0, "gauss": 0.0})
    else:
        bits = getattr(generator, "bit_generator", generator)
        bits.state = type(bits)(seed).state


@contextmanager
def kept_state(generator: Any) -> Generator[None]:
    """Inside, draw from one of `GENERATORS` as you like; outside, nobody can tell."""
    state: Any
    put_back: Any
    if isinstance(generator, random.SystemRandom):
        state, put_back = None, lambda _: None
    elif isinstance(generator, random.Random):
        state, put_back = generator.getstate(), generator.setstate
    elif isinstance(generator, (torch.Generator, np.random.RandomState)):
        state, put_back = generator.get_state(), generator.set_state
    else:
        bits = getattr(generator, "bit_generator", generator)
        state, put_back = bits.state, partial(setattr, bits, "state")
    try:
        yield
    finally:
        put_back(state)
