import collections
import io
import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from frostline.splitting.python_state.places import Place, Walk, contents, fingerprint, has_state, mark_of
from frostline.splitting.python_state.sources import sources_of
from helpers_splitting import Net, check, x

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


class Slotted:
    __slots__ = ("rate", "unset")

    def __init__(self):
        self.rate = 1.0


def test_a_place_notices_another_value_and_a_write_in_place():
    table = {"number": 1, "tensor": torch.zeros(2), "gone": 3, "nan": float("nan")}
    places = {name: Place(name, table, name) for name in table}
    assert not any(place.has_changed() for place in places.values())
    table["number"] = 2
    table["tensor"].add_(1)
    del table["gone"]
    table["nan"] = float("nan")
    assert [name for name, place in places.items() if place.has_changed()] == ["number", "tensor", "gone"]


def test_a_walk_finds_what_the_code_names_wherever_it_is_kept():
    def forward(m, batch):
        return m.high(m.low(batch)) * m.settings.rate * m.table["gain"] * m.slotted.rate

    model = Net(forward)
    model.settings, model.table, model.slotted = SimpleNamespace(rate=2.0, unread=1), {"gain": 3.0}, Slotted()
    walk = Walk(sources_of(model), [model])
    walk.module("", model)
    walk.scopes()
    found = contents(walk.places)
    assert found["settings.rate"] == "2.0"
    assert found["table['gain']"] == "3.0"
    assert found["slotted.rate"] == "1.0"
    assert not any("unread" in name for name in found)
    assert model(x(2)).shape == (2, 8)


LOG = logging.StreamHandler(io.StringIO())


def test_a_model_that_writes_a_log_is_split():
    def forward(m, batch):
        LOG.stream.write("called\n")
        return m.high(m.low(batch))

    check(Net(forward), x(4), names=["low"])
    assert "called" in LOG.stream.getvalue()
