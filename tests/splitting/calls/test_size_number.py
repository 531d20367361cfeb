import contextlib
import copy
import pickle

import pytest
import torch

import frostline as fl
from frostline.splitting.calls.size_number import SizeNumber, plain, tracked
from helpers_splitting import D, Net, check, x

DECISIONS = {
    "==": lambda n: n == 5, "<": lambda n: n < 5, "bool": lambda n: bool(n), "hash": lambda n: n in {5},
    "//": lambda n: n // 2, "%": lambda n: n % 3, "/": lambda n: n / 2, "1 /": lambda n: 1 / n, "int": lambda n: int(n),
    "float": lambda n: float(n), "text": lambda n: f"{n}", "min": lambda n: min(8, n), "power": lambda n: n**2,
}  # fmt: skip


@pytest.mark.parametrize("name", DECISIONS)
def test_whatever_is_no_sum_or_product_is_noticed(name):
    seen = []
    DECISIONS[name](SizeNumber.of(4, lambda: seen.append(name)))
    assert seen


def test_sums_and_products_are_sizes_and_go_unnoticed():
    def noticed():
        raise AssertionError

    size = SizeNumber.of(4, noticed)
    for made in (size + 1, 1 + size, size * 3, 3 * size, size - 1, 9 - size, -size):
        assert type(made) is SizeNumber
    assert plain(2 * size + 1) == 9
    assert type(plain(size)) is int
    assert torch.zeros(12).view(size, 3).shape == (4, 3)


def test_shapes_keep_their_type():
    shape = tracked(torch.zeros(2, 3).shape, lambda: None)
    assert type(shape) is torch.Size
    assert type(shape[0]) is SizeNumber
    assert tracked(1.5, lambda: None) == 1.5


def test_copies_are_plain_numbers():
    size = SizeNumber.of(4, lambda: None)
    assert type(copy.deepcopy(size)) is int
    assert type(pickle.loads(pickle.dumps(size))) is int


BRANCHES = {
    "len": lambda n, batch: len(batch) == 5,
    "shape": lambda n, batch: n == 5,
    "a remainder": lambda n, batch: n % 5 == 0,
    "a set": lambda n, batch: n in {5, 7},
    "rows in a list": lambda n, batch: len(list(batch)) == 5,
    "chunks": lambda n, batch: len(batch.split(1)) == 5,
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_the_batch_size_is_proven_at_every_size(name):
    model = Net(lambda m, batch: m.high(m.low(batch)) * (2 if BRANCHES[name](batch.shape[0], batch) else 1))
    split = fl.split(model, x(4))
    for count in (1, 2, 3, 6):
        batch = x(count)
        torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))
    with pytest.raises(fl.SplitError, match="in another way for a batch of 5"):
        split.extract(x(5))
    with pytest.raises(fl.SplitError, match="in another way for a batch of 5"):
        split.head(x(5))


def test_shapes_that_are_only_passed_on_cost_no_proof():
    model = Net(lambda m, batch: m.high(m.low(batch).view(batch.shape[0], 2, D // 2).reshape(batch.shape[0], -1)))
    assert not check(model, x(4))._plan.decides_by_size


def test_an_error_that_the_model_catches_may_tell_it_the_size():
    def forward(m, batch):
        low = m.low(batch)
        with contextlib.suppress(IndexError):
            low = low + low[4]
        return m.high(low)

    model = Net(forward)
    try:
        split = fl.split(model, x(4))
        batch = x(6)
        found = split.head(*split.extract(batch))
    except fl.FrostlineError:
        return
    torch.testing.assert_close(found, model(batch))
