import functools
import itertools
import multiprocessing
import random

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

import frostline as fl
from frostline.caching.samples.dataset_state import DatasetState, HeldGenerators, mark_of
from helpers_caching import D, fill

N = 12
SOURCE, OTHER = random.Random(0), np.random.default_rng(3)


class Rows(Dataset):
    """Items made by a function of (dataset, index)."""

    def __init__(self, make=None, **attributes):
        self.make = make
        self.__dict__.update(attributes)

    def __len__(self):
        return N

    def __getitem__(self, index):
        return (self.make or (lambda _, i: plain(i)))(self, index), index % 3


def plain(index):
    return torch.full((D,), float(index))


class Noisy:
    """A transform with a generator of its own."""

    __slots__ = ("source",)

    def __init__(self, source):
        self.source = source

    def __call__(self, row):
        draw = self.source.random() if hasattr(self.source, "random") else float(torch.rand((), generator=self.source))
        return row + 0.5 * (draw < 0.01)


class Chain(torch.nn.Module):
    """A transform of transforms, as torchvision has them."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = steps

    def forward(self, row):
        for step in self.steps:
            row = step(row)
        return row


def transformed(dataset, index):
    return dataset.transform(plain(index))


def closed_over(source):
    return Rows(lambda _, i: plain(i) + (source.random() < 0.01))


def with_default():
    return lambda _, i, source=OTHER: plain(i) + (source.random() < 0.01)


def of_global(dataset, index):
    return plain(index) + (SOURCE.random() < 0.01)


def lazily(dataset, index):
    if dataset.source is None:
        dataset.source = np.random.RandomState(1)
    return plain(index) + (dataset.source.rand() < 0.01)


DRAWING = {
    "attribute": lambda: Rows(transformed, transform=Noisy(np.random.default_rng(0))),
    "nested": lambda: Rows(transformed, transform=Chain(Noisy(random.Random(0)))),
    "subset": lambda: Subset(Rows(transformed, transform=Noisy(random.Random(0))), range(9)),
    "concat": lambda: ConcatDataset([Rows(), Rows(transformed, transform=Noisy(np.random.default_rng(0)))]),
    "closure": lambda: closed_over(np.random.default_rng(0)),
    "default": lambda: Rows(with_default()),
    "global": lambda: Rows(of_global),
    "lazy": lambda: Rows(lazily, source=None),
    "bound method": lambda: Rows(lambda d, i: plain(i) + (d.draw() < 0.01), draw=np.random.default_rng(0).random),
    "partial": lambda: Rows(functools.partial(lambda g, d, i: plain(i) + (g.random() < 0.01), random.Random(0))),
    "torch": lambda: Rows(transformed, transform=Noisy(torch.Generator().manual_seed(0))),
}


@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in DRAWING), ("attribute", 1), ("lazy", 1)])
def test_a_dataset_that_draws_from_a_generator_of_its_own_is_refused_however_rarely_it_shows(tmp_path, name, workers):
    with pytest.raises(fl.DataError, match="The dataset is random") as error:
        fill(tmp_path, data=DRAWING[name](), num_workers=workers)
    assert "the generator " in error.value.received


def test_a_generator_is_named_by_its_place():
    held = HeldGenerators(data := DRAWING["attribute"]())
    assert held.drawn() is None
    data[0]
    assert held.drawn() == "dataset.transform.source"
    held.note()
    assert held.drawn() is None


def test_random_targets_are_refused(tmp_path):
    class Labels(Rows):
        def __getitem__(self, index):
            return plain(index), self.labels.integers(0, 3)

    with pytest.raises(fl.DataError, match="is random") as error:
        fill(tmp_path, data=Labels(labels=np.random.default_rng(0)))
    assert "labels" in error.value.received


def unseeded(dataset, index):
    if dataset.augment:
        return plain(index) + np.random.default_rng().random()
    return plain(index)


def test_code_that_asks_the_operating_system_is_read_twice_at_every_item(tmp_path):
    reads = []

    def once(dataset, index):
        reads.append(index)
        return unseeded(dataset, index)

    with pytest.raises(fl.DataError, match="is random"):
        fill(tmp_path, data=Rows(unseeded, augment=True))
    data = fill(tmp_path, data=Rows(once, augment=False))
    assert len(data) == N
    assert all(reads.count(index) >= 2 for index in range(N))


def after_many(dataset, index):
    dataset.count += 1
    return plain(index) + (dataset.count > 100)


def by_list(dataset, index):
    dataset.log.append(index)
    return plain(index) * (2 if len(dataset.log) > 100 else 1)


def following(dataset, index):
    return plain(index) + (next(dataset.count) > 100)


def yielding():
    number = 0
    while True:
        number += 1
        yield number


COUNTING = [
    Rows(after_many, count=0), Rows(by_list, log=[]), Rows(following, count=itertools.count()),
    Rows(following, count=yielding()), Rows(following, count=iter(list(range(1000)))),
]  # fmt: skip


@pytest.mark.parametrize("data", COUNTING)
def test_a_dataset_that_counts_its_reads_and_follows_the_count_is_refused(tmp_path, data):
    with pytest.raises(fl.DataError, match="change with every read") as error:
        fill(tmp_path, data=data)
    assert "'dataset.count'" in error.value.what or "'dataset.log'" in error.value.what


def test_an_item_that_differs_after_the_others_were_read_is_refused(tmp_path):
    hidden = tmp_path / "reads"

    def on_disk(dataset, index):
        count = len(hidden.read_text()) if hidden.exists() else 0
        hidden.write_text("." * (count + 1))
        return plain(index) + (count > 14)

    with pytest.raises(fl.DataError, match="is random") as error:
        fill(tmp_path / "cache", data=Rows(on_disk))
    assert "read again after the other items" in error.value.received


def cached(dataset, index):
    if index not in dataset.known:
        dataset.known[index] = plain(index)
    return dataset.known[index]


def in_chunks(dataset, index):
    if dataset.chunk != index // 4:
        dataset.chunk, dataset.rows = index // 4, [plain(4 * (index // 4) + at) for at in range(4)]
    return dataset.rows[index % 4]


def opened(dataset, index):
    if dataset.file is None:
        dataset.file = object()
    return plain(index)


def counted(dataset, index):
    dataset.hits += 1
    return plain(index)


def refilled(dataset, index):
    dataset.buffer.fill_(index)
    return dataset.buffer


def seen_before(dataset, index):
    return remembered(index)


@functools.lru_cache(maxsize=2)
def remembered(index):
    return plain(index)


STEADY = {
    "a cache of items": lambda: Rows(cached, known={}),
    "a chunk that is kept": lambda: Rows(in_chunks, chunk=-1, rows=None),
    "a file that the first read opens": lambda: Rows(opened, file=None),
    "a count that nobody reads": lambda: Rows(counted, hits=0),
    "one tensor that is filled anew": lambda: Rows(refilled, buffer=torch.zeros(D)),
    "lru_cache": lambda: Rows(seen_before),
    "a generator that is not drawn from": lambda: Rows(transformed, transform=Chain(), source=random.Random(0)),
    "a seed per item": lambda: Rows(lambda _, i: plain(i) + np.random.default_rng(i).random()),
}


@pytest.mark.parametrize("name", STEADY)
def test_what_follows_from_the_index_alone_is_taken(tmp_path, name):
    data = fill(tmp_path, data=STEADY[name]())
    if name != "a seed per item":
        assert torch.equal(
            torch.stack([data[at][0][0] for at in range(N)]), 2 * torch.stack(list(map(plain, range(N))))
        )


def scaled(dataset, index):
    return plain(index) * dataset.scale


def by_table(dataset, index):
    return plain(index) * dataset.table["epoch"] + dataset.shared.value + dataset.rows[index]


def make_tabled():
    return Rows(by_table, table={"epoch": 1}, shared=multiprocessing.Value("i", 0), rows=np.zeros(N), unused=1)


CHANGES = {
    "number": lambda d: d.table.update(epoch=2),
    "shared": lambda d: setattr(d.shared, "value", 1),
    "array": lambda d: d.rows.__setitem__(3, 1.0),
    "replaced": lambda d: setattr(d, "make", scaled),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_code_reads_is_compared(name):
    data = make_tabled()
    state = DatasetState(Subset(data, [1, 2]), has_identity=True)
    data.unused = 2
    assert state.moved() == []
    CHANGES[name](data)
    assert state.moved()
    state.leave_out_moved()
    assert state.moved() == []


def test_indices_of_a_subset_and_items_of_a_list_are_compared():
    data = Subset(items := [(plain(0), 0), (plain(1), 1)], [0, 1])
    state = DatasetState(data, has_identity=True)
    data.indices[0] = 1
    assert "dataset.indices" in state.moved()
    state = DatasetState(items, has_identity=True)
    items[1][0].mul_(2)
    assert state.moved() == ["dataset"]


@pytest.mark.parametrize("has_identity", [False, True])
def test_a_mark_follows_the_content(has_identity):
    kinds = [torch.bool, torch.uint8, torch.bfloat16, torch.float64, torch.complex64]
    tensors = [torch.ones(shape, dtype=kind) for kind in kinds for shape in ((), (0,), (3, 2))]
    arrays = [np.ones(3), np.zeros((2, 0)), np.array(["a"], dtype=object), np.ones((4, 4))[:, 1]]
    values = [*tensors, *arrays, torch.ones(3, 2).T, torch.ones(2).to_sparse(), {"a": [1, {2}]}, {1, "b"}, float("nan")]
    for value in values:
        mark = mark_of(value, has_identity=has_identity)
        assert mark == mark_of(value, has_identity=has_identity)
    changed = torch.ones(3, 2)
    before = mark_of(changed, has_identity=has_identity)
    changed[2, 1] = 0
    assert mark_of(changed, has_identity=has_identity) != before
    assert mark_of({"a": [1, {3}]}, has_identity=has_identity) != mark_of(values[-3], has_identity=has_identity)


def test_a_generator_in_a_tuple_among_numbers_is_found():
    held = HeldGenerators(Rows(table={at: ((at, "text"), b"bytes") for at in range(9)}, kept=((1, (2, [OTHER])),)))
    OTHER.random()
    assert held.drawn() is not None


class Held:
    """An object that holds a list under a name that code reads, or none does."""

    def __init__(self, rows):
        self.rows = rows


def test_what_is_met_first_under_a_name_that_no_code_reads_is_met_again_under_one_that_code_reads():
    shifts = [1.0, 2.0]

    def shifted(index):
        return plain(index) + shifts[0]

    data = Rows(lambda own, index: own.used.rows(index), unused=shifted, used=Held(shifted))
    state = DatasetState(data, has_identity=False)
    assert not state.moved(only_own=True)
    shifts[0] = 5.0
    assert state.moved(only_own=True)


def test_a_ring_of_objects_that_no_code_reads_is_walked_once():
    first, second = Held(None), Held(None)
    first.rows, second.rows = second, first
    assert not DatasetState(Rows(unused=first), has_identity=False).moved(only_own=True)
