import collections
import random

import numpy as np
import pytest
import torch

from frostline.splitting.fingerprints import fingerprint, has_state, mark_of

MOVED = {
    "a tensor": (lambda: torch.zeros(2), lambda own: own.add_(1)),
    "an array": (lambda: np.zeros(2), lambda own: own.__iadd__(1)),
    "a list": (lambda: [1, [2]], lambda own: own[1].append(3)),
    "a table": (lambda: {"a": {"b": 1}}, lambda own: own["a"].update(b=2)),
    "a set": (lambda: {1}, lambda own: own.add(2)),
    "a queue": (lambda: collections.deque([1]), lambda own: own.append(2)),
    "a generator of Python": (lambda: random.Random(0), lambda own: own.random()),
    "a generator of NumPy": (lambda: np.random.default_rng(0), lambda own: own.random()),
    "an old generator of NumPy": (lambda: np.random.RandomState(0), lambda own: own.rand()),
    "a generator of torch": (lambda: torch.Generator(), lambda own: torch.rand(1, generator=own)),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_value_that_moves_has_another_fingerprint(name):
    make, move = MOVED[name]
    value = make()
    before, mark = fingerprint(value), mark_of(value)
    assert fingerprint(value) == before
    assert fingerprint(make()) == before
    move(value)
    assert fingerprint(value) != before
    assert mark_of(value) != mark or not (has_state(value) or isinstance(value, (torch.Tensor, np.ndarray)))


def test_an_iterator_is_never_the_same():
    assert has_state(iter([1]))
    assert fingerprint(iter([1])) != fingerprint(iter([1]))
    assert not has_state([1])
