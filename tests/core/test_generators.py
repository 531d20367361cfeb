import random

import numpy as np
import pytest
import torch

from frostline.core.generators import GENERATORS, kept_state, seed_generator, state_of

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


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_puts_a_generator_to_one_place_whatever_was_drawn(name):
    generator, draw = DRAWS[name]
    with kept_state(generator):
        seed_generator(generator, 2**62 + 7)
        first = draw(generator)
        draw(generator)
        seed_generator(generator, 2**62 + 7)
        assert draw(generator) == first
        seed_generator(generator, 8)
        assert draw(generator) != first


def test_what_a_generator_keeps_for_the_next_draw_is_forgotten():
    for generator, draw in ((random.Random(), "gauss"), (np.random.RandomState(), "normal")):
        seed_generator(generator, 3)
        first = getattr(generator, draw)(0, 1)  # a pair is drawn, and the second one kept
        seed_generator(generator, 3)
        assert getattr(generator, draw)(0, 1) == first
