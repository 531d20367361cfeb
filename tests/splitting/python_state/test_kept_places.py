"""What a model keeps anywhere in Python is put back after a look at it."""

import contextvars
import functools
import itertools
import os
import random
import threading
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting import KeptPlaces

NUMBERS, TABLE, ARRAY, TENSOR = [0.0], {}, np.zeros(2), torch.zeros(2)
DRAWN = random.Random(1), np.random.RandomState(1), torch.Generator().manual_seed(1)


STEP = contextvars.ContextVar("step", default=0)
LOCAL = threading.local()
LOCAL.count = 0
os.environ["FROSTLINE_TEST_STEP"] = "0"


class Ticks:
    __slots__ = ("__weakref__", "count")

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


def by_generator_function(own, x):
    return next(own.growing)


def by_own_iterator(own, x):
    return next(own.ticking)


@functools.lru_cache
def _memo(size):
    NUMBERS[0] += 1
    return NUMBERS[0]


@functools.lru_cache
def _drawn_once(size):
    return torch.rand(())


def in_memo(own, x):
    return _memo(x.shape[0])


def in_drawn_memo(own, x):
    return _drawn_once(x.shape[1])


def in_context(own, x):
    STEP.set(STEP.get() + 1)
    return STEP.get()


def in_thread(own, x):
    LOCAL.count += 1
    return LOCAL.count


def in_environment(own, x):
    os.environ["FROSTLINE_TEST_STEP"] = str(int(os.environ["FROSTLINE_TEST_STEP"]) + 1)
    return int(os.environ["FROSTLINE_TEST_STEP"])


def behind_weak_reference(own, x):
    own.ticks().count += 1
    return own.ticks().count


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
        in_counter, in_plain_tensor, by_python, by_numpy, by_torch, in_memo, in_drawn_memo, in_context, in_thread,
        in_environment, behind_weak_reference]  # fmt: skip
MOVING = [in_iterator, by_generator_function, by_own_iterator]  # where they stand cannot be put back


class Ticking:
    def __init__(self):
        self.seen = []

    def __iter__(self):
        return self

    def __next__(self):
        self.seen.append(1)
        return len(self.seen)


def _growing():
    for count in itertools.count():
        yield 0.1 * count


class Keeping(nn.Module):
    count = 0

    def __init__(self, keep):
        super().__init__()
        self.low, self.high, self.keep = nn.Linear(4, 4), nn.Linear(4, 2), keep
        self.tick, self.numbers, self.counter, self.mean = _closure(), itertools.count(), Counter(), torch.zeros(())
        self.growing, self.ticking, self.kept = _growing(), Ticking(), [Ticks()]
        self.ticks = weakref.ref(self.kept[0])

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
    _memo.cache_clear()
    _drawn_once.cache_clear()


@pytest.mark.parametrize("keep", KEPT, ids=lambda keep: keep.__name__)
def test_what_code_keeps_stands_where_it_stood(keep):
    model, x = Keeping(keep), torch.arange(12.0).view(3, 4)
    with KeptPlaces(model).kept():
        torch.manual_seed(0)
        first = [model(x), model(x + 1)]
        assert keep in (in_table, in_class_later, in_global, in_memo, in_drawn_memo) or not torch.equal(
            model(x), first[0]
        )
    torch.manual_seed(0)
    again = [model(x), model(x + 1)]
    assert all(map(torch.equal, first, again))


def test_it_is_put_back_on_errors_too():
    model = Keeping(in_list)
    before = NUMBERS[0]
    with pytest.raises(KeyError), KeptPlaces(model).kept():
        model(torch.zeros(2, 4))
        raise KeyError
    assert NUMBERS[0] == before


@pytest.mark.parametrize("keep", KEPT + MOVING, ids=lambda keep: keep.__name__)
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
    with KeptPlaces(made()).kept():
        fitted = made()
        fl.fit(fitted, Data(), epochs=1, batch_size=3, cache=False, progress=False, monitor=False,
               optimizer=lambda parameters: optimizer(parameters))  # fmt: skip
    plain = made()
    torch.manual_seed(0)  # the seed of `fit`
    step = optimizer([own for own in plain.parameters() if own.requires_grad])
    for part in (read[-6:-3], read[-3:]):
        inputs, labels = torch.stack([items[at][0] for at in part]), torch.tensor([items[at][1] for at in part])
        nn.functional.cross_entropy(plain(inputs), labels).backward()
        step.step()
        step.zero_grad()
    torch.testing.assert_close(fitted.high.weight, plain.high.weight)


@pytest.mark.parametrize("keep", [*MOVING, in_memo, in_drawn_memo, in_context, in_thread, in_environment,
                                  behind_weak_reference], ids=lambda keep: keep.__name__)  # fmt: skip
def test_a_split_refuses_it_and_has_moved_nothing(keep):
    model, x = Keeping(keep), torch.arange(16.0).view(4, 4)
    fl.freeze(model, through="low")
    with pytest.raises(fl.FrostlineError) as error:
        fl.fit(model, [(row, 0) for row in x], epochs=1, batch_size=2, progress=False, monitor=False)
    assert error.value.do
    assert next(model.numbers) == 0
    assert next(model.growing) == 0
    assert not model.ticking.seen
    assert not _drawn_once.cache_info().misses


def test_a_memo_that_computes_the_same_again_is_no_hindrance(tmp_path):
    @functools.lru_cache
    def ramp(size):
        return torch.linspace(0.5, 1.5, size).sum()

    model, x = Keeping(lambda own, x: ramp(x.shape[1])), torch.arange(16.0).view(4, 4)
    fl.freeze(model, through="low")
    result = fl.fit(model, [(row, 0) for row in x], epochs=1, batch_size=2, cache=tmp_path, progress=False)
    assert result.cache.samples == 4
