import os
import random

import numpy as np
import pytest

from frostline.core.code_names import entropy_in, nested


def of_system():
    return os.urandom(1)


def without_seed():
    return np.random.default_rng().random()


def inside():
    return [random.Random().random() for _ in range(2)]


def with_seed(index):
    return np.random.default_rng(index).random() + random.Random(index).random()


@pytest.mark.parametrize(
    ("function", "asks"), [(of_system, True), (without_seed, True), (inside, True), (with_seed, False)]
)
def test_code_that_asks_the_operating_system_for_chance_is_known(function, asks):
    function(*([0] if function is with_seed else []))
    assert any(map(entropy_in, nested(function.__code__))) is asks


def test_the_source_of_chance_is_named():
    assert entropy_in(of_system.__code__) == "urandom"
    assert entropy_in(without_seed.__code__) == "default_rng() without a seed"
    assert entropy_in(with_seed.__code__) is None
