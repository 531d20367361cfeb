"""What a model keeps anywhere in Python is put back after a look at it."""

import functools
import itertools
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting import kept_places

NUMBERS, TABLE, ARRAY, TENSOR = [0.0], {}, np.zeros(2), torch.zeros(2)
DRAWN = random.Random(1), np.random.RandomState(1), torch.Generator().manual_seed(1)


class Ticks:
    __slots__ = ("count",)

    def __init__(self):
        self.count = 0

    def tick(self):
        self.count += 1
        return self.count


TICKS = Ticks()


def named(mean):
    global FIRST
    if "FIRST" not in globals():
        FIRST = mean
    return FIRST


def _closure():
    count = 0

    def tick():
        nonlocal count
        count += 1
        return count

    return tick


def in_list(own, x):
    NUMBERS[0] += 1
    return NUMBERS[0]


def in_table(own, x):
    return TABLE.setdefault("first", x.detach().mean())


def in_array(own, x):
    ARRAY[0] += 1
    return ARRAY[0]


def in_tensor(own, x):
    TENSOR.add_(1)
    return TENSOR[0].clone()


def in_class(own, x):
    type(own).count += 1
    return type(own).count


def in_class_later(own, x):
    if not hasattr(type(own), "first"):
        type(own).first = x.detach().mean()
    return type(own).first


def in_object(own, x):
    return TICKS.tick()


def in_global(own, x):
    return named(x.detach().mean())


def in_closure(own, x):
    return own.tick()


def in_default(own, x, kept=[0.0]):  # noqa: B006 (that is what is tried)
    kept[0] += 1
    return kept[0]


def in_iterator(own, x):
    return next(own.numbers)


def in_counter(own, x):
    own.counter["calls"] += 1
    return own.counter["calls"]


def in_plain_tensor(own, x):
    own.mean.mul_(0.5).add_(x.detach().mean())
    return own.mean.clone()


def by_python(own, x):
    return DRAWN[0].random()


def by_numpy(own, x):
    return DRAWN[1].rand()


def by_torch(own, x):
    return torch.rand((), generator=DRAWN[2])


KEPT = [in_list, in_table, in_array, in_tensor, in_class, in_class_later, in_object, in_global, in_closure, in_default,
        in_iterator, in_counter, in_plain_tensor, by_python, by_numpy, by_torch]  # fmt: skip


class Keeping(nn.Module):
    count = 0

    def __init__(self, keep):
        super().__init__()
        self.low, self.high, self.keep = nn.Linear(4, 4), nn.Linear(4, 2), keep
        self.tick, self.numbers, self.counter, self.mean = _closure(), itertools.count(), Counter(), torch.zeros(())

    def forward(self, x):
        return self.high(torch.tanh(self.low(x)) * (1 + 0.1 * float(self.keep(self, x))))


@pytest.fixture(autouse=True)
def _fresh():
    yield
    globals().pop("FIRST", None)
    TABLE.clear()
    for name in ("first", "count"):
        if name in vars(Keeping):
            delattr(Keeping, name)
    Keeping.count = 0


@pytest.mark.parametrize("keep", KEPT, ids=lambda keep: keep.__name__)
def test_what_code_keeps_stands_where_it_stood(keep):
    model, x = Keeping(keep), torch.arange(12.0).view(3, 4)
    with kept_places(model):
        first = [model(x), model(x + 1)]
        assert keep in (in_table, in_class_later, in_global) or not torch.equal(model(x), first[0])
    again = [model(x), model(x + 1)]
    assert all(map(torch.equal, first, again))


def test_it_is_put_back_on_errors_too():
    model = Keeping(in_list)
    before = NUMBERS[0]
    with pytest.raises(KeyError), kept_places(model):
        model(torch.zeros(2, 4))
        raise KeyError
    assert NUMBERS[0] == before


@pytest.mark.parametrize("keep", KEPT, ids=lambda keep: keep.__name__)
@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "trainable"])
def test_an_uncached_training_begins_as_a_plain_loop_does(keep, is_frozen):
    torch.manual_seed(0)
    items = [(torch.randn(4), at % 2) for at in range(6)]
    read = []

    class Data:
        def __len__(self):
            return len(items)

        def __getitem__(self, at):
            read.append(at)
            return items[at]

    def made():
        torch.manual_seed(1)
        model = Keeping(keep)
        if is_frozen:
            fl.freeze(model, through="low")
        return model

    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    with kept_places(made()):
        fitted = made()
        fl.fit(fitted, Data(), epochs=1, batch_size=3, cache=False, progress=False, monitor=False,
               optimizer=lambda parameters: optimizer(parameters))  # fmt: skip
    plain = made()
    step = optimizer([own for own in plain.parameters() if own.requires_grad])
    for part in (read[-6:-3], read[-3:]):
        inputs, labels = torch.stack([items[at][0] for at in part]), torch.tensor([items[at][1] for at in part])
        nn.functional.cross_entropy(plain(inputs), labels).backward()
        step.step()
        step.zero_grad()
    torch.testing.assert_close(fitted.high.weight, plain.high.weight)
