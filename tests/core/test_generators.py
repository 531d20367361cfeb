import random

import numpy as np
import pytest
import torch

from frostline.core.generators import GENERATORS, kept_state, state_of

DRAWS = {
    "python": (random.Random(0), lambda g: g.random()),
    "numpy": (np.random.default_rng(0), lambda g: g.random()),
    "numpy before 1.17": (np.random.RandomState(0), lambda g: g.rand()),
    "bits": (np.random.PCG64(0), lambda g: g.random_raw()),
    "torch": (torch.Generator().manual_seed(0), lambda g: torch.rand((), generator=g)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_state_changes_by_drawing_alone(name):
    generator, draw = DRAWS[name]
    assert isinstance(generator, GENERATORS)
    before = state_of(generator)
    assert state_of(generator) == before
    draw(generator)
    assert state_of(generator) != before


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_is_put_back(name):
    generator, draw = DRAWS[name]
    with kept_state(generator):
        inside = draw(generator)
    assert draw(generator) == inside
