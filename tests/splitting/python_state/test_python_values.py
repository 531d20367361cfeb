import collections
import random

import numpy as np
import pytest
import torch

from frostline.splitting.python_state.python_values import fingerprint, has_state, mark_of

WRITES = {
    "a tensor": (lambda: torch.zeros(3), lambda value: value.add_(1)),
    "an array": (lambda: np.zeros(3), lambda value: value.__setitem__(0, 1)),
    "a set": (lambda: {1, 2}, lambda value: value.add(3)),
    "a queue": (lambda: collections.deque([1], maxlen=2), lambda value: value.append(2)),
    "bytes": (lambda: bytearray(b"ab"), lambda value: value.append(1)),
    "Python's generator": (lambda: random.Random(0), lambda value: value.random()),
    "NumPy's generator": (lambda: np.random.default_rng(0), lambda value: value.random()),
    "NumPy's old generator": (lambda: np.random.RandomState(0), lambda value: value.rand()),
    "torch's generator": (lambda: torch.Generator().manual_seed(0), lambda value: torch.rand(1, generator=value)),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_in_place_has_another_mark_and_fingerprint(name):
    make, write = WRITES[name]
    value = make()
    before = (mark_of(value), fingerprint(value))
    assert fingerprint(make()) == before[1]
    write(value)
    assert mark_of(value) != before[0]
    assert fingerprint(value) != before[1]


def test_numbers_and_texts_are_told_from_each_other():
    assert len({fingerprint(value) for value in (1, 1.0, True, "1", b"1", None, 1j)}) == 7
    assert mark_of(1) is None


def test_containers_are_compared_by_content():
    assert fingerprint({"a": [1, (2, torch.ones(2))]}) == fingerprint({"a": [1, (2, torch.ones(2))]})
    assert fingerprint({"a": [1, (2, torch.ones(2))]}) != fingerprint({"a": [1, (2, torch.zeros(2))]})


def test_an_iterator_is_never_the_same():
    numbers = iter([1, 2])
    assert has_state(numbers)
    assert fingerprint(numbers) != fingerprint(numbers)
    assert not has_state([1])
