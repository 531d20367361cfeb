import random

import numpy as np
import torch

from frostline.core.restore import seed_generators
from frostline.selection.heads.noise import OwnNoise


def drawn():
    return torch.rand(1).item(), np.random.rand(), random.random()


def test_a_stream_goes_on_where_it_stood_and_disturbs_nobody():
    seed_generators(5)
    wanted = [drawn() for _ in range(3)]
    seed_generators(1)
    outer = [drawn() for _ in range(3)]
    seed_generators(1)
    noise, seen, between = OwnNoise(5), [], []
    for _ in range(3):
        with noise:
            seen.append(drawn())
        between.append(drawn())
    assert seen == wanted
    assert between == outer


def test_noise_that_is_not_drawn_costs_nothing():
    seed_generators(1)
    first = drawn()
    seed_generators(1)
    with OwnNoise(5, is_drawn=False):
        assert drawn() == first
