"""What a model keeps anywhere in Python is put back after a look at it."""

import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import Mapping

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting import KeptPlaces
from helpers_keeping import KEPT, MOVING, NUMBERS, REFUSED, SYSTEM, Keeping, drawn_once, forget, repeats


@pytest.fixture(autouse=True)
def _fresh():
    yield
    forget()


@pytest.mark.parametrize("keep", KEPT, ids=lambda keep: keep.__name__)
def test_what_code_keeps_stands_where_it_stood(keep):
    model, x = Keeping(keep), torch.arange(12.0).view(3, 4)
    with KeptPlaces(model).kept():
        torch.manual_seed(0)
        first = [model(x), model(x + 1)]
        assert repeats(keep) or not torch.equal(model(x), first[0])
    torch.manual_seed(0)
    again = [model(x), model(x + 1)]
    assert all(map(torch.equal, first, again))


def test_it_is_put_back_on_errors_too():
    model = Keeping(KEPT[0])
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


@pytest.mark.parametrize("keep", MOVING + REFUSED, ids=lambda keep: keep.__name__)
def test_a_split_refuses_it_and_has_moved_nothing(keep):
    model, x = Keeping(keep), torch.arange(16.0).view(4, 4)
    fl.freeze(model, through="low")
    with pytest.raises(fl.FrostlineError) as error:
        fl.fit(model, [(row, 0) for row in x], epochs=1, batch_size=2, progress=False, monitor=False)
    assert error.value.do
    assert next(model.numbers) == 0
    assert next(model.growing) == 0
    assert not model.ticking.seen
    assert not drawn_once.cache_info().misses


def test_a_memo_that_computes_the_same_again_is_no_hindrance(tmp_path):
    @functools.lru_cache
    def ramp(size):
        return torch.linspace(0.5, 1.5, size).sum()

    model, x = Keeping(lambda own, x: ramp(x.shape[1])), torch.arange(16.0).view(4, 4)
    fl.freeze(model, through="low")
    result = fl.fit(model, [(row, 0) for row in x], epochs=1, batch_size=2, cache=tmp_path, progress=False)
    assert result.cache.samples == 4


def test_a_generator_of_the_system_has_no_state_to_put_back():
    model, x = Keeping(lambda own, x: 0 * SYSTEM.random()), torch.zeros(2, 4)
    with KeptPlaces(model).kept():
        first = model(x)
    assert torch.equal(model(x), first)


class Registry(OrderedDict):
    """Builds what it names, as tables of activations do; one that needs an argument cannot be built."""

    def __getitem__(self, key):
        return super().__getitem__(key)()

    def __missing__(self, key):
        raise AssertionError(f"{key} was asked for")


REGISTRY = Registry(relu=nn.ReLU, linear=nn.Linear)


class Settings(Mapping):
    """Some of its entries have no value yet."""

    def __getitem__(self, key):
        raise ValueError(f"{key} is missing")

    def __iter__(self):
        return iter(["rate"])

    def __len__(self):
        return 1


SETTINGS = Settings()


def _reads_both(own, x):
    return REGISTRY["relu"].inplace + len(SETTINGS)


@pytest.mark.parametrize(
    ("keep", "is_cached"),
    [(lambda own, x: int(REGISTRY["relu"].inplace), True), (_reads_both, False)],
    ids=["cached", "uncached"],
)
def test_tables_that_compute_their_entries_are_left_as_they_are(tmp_path, keep, is_cached):
    model = Keeping(keep)
    fl.freeze(model, through="low")
    items, cache = [(row, 0) for row in torch.eye(4)], tmp_path if is_cached else False
    fl.fit(model, items, epochs=1, batch_size=2, progress=False, monitor=False, cache=cache)
    held = {key: dict.__getitem__(REGISTRY, key) for key in REGISTRY}
    assert held == {"relu": nn.ReLU, "linear": nn.Linear}


@contextlib.contextmanager
def _counted():
    yield


class _Worker:
    def begin(self):
        self._active = threading.get_ident()  # `threading._active` holds threads, and these an open file


@_counted()
def _decorated(x):
    worker = _Worker()
    worker.begin()
    return 0 * worker._active


def test_code_that_context_managers_decorate_and_names_of_other_modules_are_no_iterators(tmp_path):
    model = Keeping(lambda own, x: _decorated(x))
    fl.freeze(model, through="low")
    assert not KeptPlaces(model).iterators
    result = fl.fit(model, [(row, 0) for row in torch.eye(4)], epochs=1, batch_size=2, cache=tmp_path, progress=False)
    assert result.cache.samples == 4
