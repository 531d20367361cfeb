"""A model that keeps something wherever Python can, outside of its modules' own attributes; one way at a time."""

import array
import contextvars
import functools
import itertools
import math
import os
import queue
import random
import threading
import weakref
from collections import Counter

import numpy as np
import torch
from torch import nn

NUMBERS, TABLE, ARRAY, TENSOR = [0.0], {}, np.zeros(2), torch.zeros(2)
DRAWN = random.Random(1), np.random.RandomState(1), torch.Generator().manual_seed(1)


NUMBERS_OF_C, LOG = array.array("d", [0.0]), type("Log", (list,), {})()
MARKED, SYSTEM = torch.zeros(()), random.SystemRandom()
MARKED.calls = 0
math.frostline_test_calls = 0


class Meta(type):
    calls = 0

    @property
    def tick(cls):
        Meta.calls += 1
        return Meta.calls


class Registry(metaclass=Meta):
    calls = 0

    @classmethod
    def ticked(cls):
        cls.calls += 1
        return cls.calls


class Descriptor:
    def __init__(self):
        self.calls = 0

    def __get__(self, owner, kind=None):
        self.calls += 1
        return self.calls


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
def memo(size):
    NUMBERS[0] += 1
    return NUMBERS[0]


@functools.lru_cache
def drawn_once(size):
    return torch.rand(())


def in_memo(own, x):
    return memo(x.shape[0])


def in_drawn_memo(own, x):
    return drawn_once(x.shape[1])


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


def in_other_class(own, x):
    Registry.calls += 1
    return Registry.calls


def by_class_method(own, x):
    return Registry.ticked()


def in_metaclass(own, x):
    return Registry.tick


def by_descriptor(own, x):
    return own.described


def in_numbers_of_c(own, x):
    NUMBERS_OF_C[0] += 1
    return NUMBERS_OF_C[0]


def in_own_list(own, x):
    LOG.append(1)
    return len(LOG)


def on_tensor(own, x):
    MARKED.calls += 1
    return MARKED.calls


def on_parameter(own, x):
    own.high.weight.calls += 1
    return own.high.weight.calls


def on_library(own, x):
    math.frostline_test_calls += 1
    return math.frostline_test_calls


def deep(own, x):
    own.outer.a.b.c.d.e.f.calls += 1
    return own.outer.a.b.c.d.e.f.calls


def in_queue(own, x):
    value = own.line.get()
    own.line.put(value + 1)
    return value


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
        in_environment, behind_weak_reference, in_other_class, by_class_method, in_metaclass, by_descriptor,
        in_numbers_of_c, in_own_list, on_tensor, on_parameter, on_library, deep, in_queue]  # fmt: skip
REFUSED = [in_memo, in_drawn_memo, in_context, in_thread, in_environment, behind_weak_reference, by_class_method,
           in_metaclass, by_descriptor, in_numbers_of_c, in_own_list, on_tensor, on_library, deep,
           in_queue]  # fmt: skip
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


class Holder:
    calls = 0


class Keeping(nn.Module):
    count = 0
    described = Descriptor()

    def __init__(self, keep):
        super().__init__()
        self.low, self.high, self.keep = nn.Linear(4, 4), nn.Linear(4, 2), keep
        self.tick, self.numbers, self.counter, self.mean = _closure(), itertools.count(), Counter(), torch.zeros(())
        self.growing, self.ticking, self.kept = _growing(), Ticking(), [Ticks()]
        self.ticks = weakref.ref(self.kept[0])
        self.high.weight.calls, self.line, self.outer = 0, queue.Queue(), Holder()
        self.line.put(0)
        inner = self.outer
        for name in "abcdef":
            setattr(inner, name, Holder())
            inner = getattr(inner, name)

    def forward(self, x):
        return self.high(torch.tanh(self.low(x)) * (1 + 0.1 * float(self.keep(self, x))))


def forget():
    """Everything is as it was when this file was imported."""
    globals().pop("FIRST", None)
    TABLE.clear()
    for name in ("first", "count"):
        if name in vars(Keeping):
            delattr(Keeping, name)
    Keeping.count = 0
    drawn_once.cache_clear()
    memo.cache_clear()


def repeats(keep):
    """True for what gives the same value in every call after the first."""
    return keep in (in_table, in_class_later, in_global, in_memo, in_drawn_memo)
