import pickle
import random
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

import frostline as fl
from frostline.caching import Views, viewed
from frostline.data import labels_of
from helpers_caching import Part, dataset, fill
from helpers_views import DRAWS, Keyed, N, Random, Unseedable

K = 3


@pytest.mark.parametrize("name", DRAWS)
def test_a_view_is_the_same_in_any_order_and_two_differ(name):
    views, again = Views(Random(name), K), Views(Random(name), K)
    first = [views[at][0] for at in range(len(views))]
    torch.rand(7), random.random(), np.random.rand()
    for at in reversed(range(len(again))):
        assert torch.equal(again[at][0], first[at])
    assert (
        len({tuple((item - own).tolist()) for item, own in zip(first, views.dataset.inputs.repeat(K, 1), strict=True)})
        == K * N
    )


@pytest.mark.parametrize("name", DRAWS)
def test_what_a_view_draws_from_is_as_it_was(name):
    data = Random(name)
    data.lazy()
    views = Views(data, K)
    before = [random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist(),
              data.rng.bit_generator.state, data.old.get_state()[1].tobytes(), data.python.getstate(),
              data.torch.get_state().tolist(), data.made.bit_generator.state]  # fmt: skip
    views[4]
    after = [random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist(),
             data.rng.bit_generator.state, data.old.get_state()[1].tobytes(), data.python.getstate(),
             data.torch.get_state().tolist(), data.made.bit_generator.state]  # fmt: skip
    assert before == after


def test_two_generators_of_a_dataset_draw_different_numbers():
    class Two(Random):
        def __init__(self):
            super().__init__()
            self.first, self.second = np.random.default_rng(1), np.random.default_rng(1)

        def __getitem__(self, index):
            return torch.tensor([self.first.random(), self.second.random()]), 0

    one, other = Views(Two(), 1)[0][0].tolist()
    assert one != other


def test_seeds_follow_the_sample_where_it_has_a_key():
    whole, part = Views(Keyed(), K), Views(Keyed(start=4, count=N - 4), K)
    for view in range(K):
        for at in range(N - 4):
            assert torch.equal(whole[view * N + at + 4][0], part[view * (N - 4) + at][0])
    assert torch.equal(Views(fl.data.Part(Keyed(), [7, 2]), 1)[0][0], whole[7][0])


def test_keys_hold_the_view_and_the_kinds_of_generators():
    views = Views(Keyed(), K)
    assert len({views.sample_key(at) for at in range(len(views))}) == K * N
    assert views.fingerprint == Views(fl.data.Part(Keyed(), range(N)), 1).fingerprint
    assert "PCG64 RandomState Random Generator" in views.fingerprint.replace("MT19937", "RandomState")
    data = Keyed()
    del data.rng
    assert Views(data, K).fingerprint != views.fingerprint
    assert views.target(N + 3) == 3


def test_views_are_a_dataset_with_the_labels_of_the_samples():
    class Labelled(Keyed):
        labels = tuple(at % 4 for at in range(N))

    views = Views(Labelled(), 2)
    assert (len(views), views.place(N + 1)) == (2 * N, (1, 1))
    assert labels_of(views).tolist() == [at % 4 for at in range(N)] * 2
    views = Views(Keyed(), 2)
    again = pickle.loads(pickle.dumps(views))
    assert torch.equal(again[3][0], views[3][0])


BAD = {"none": 0, "less": -1, "a bool": True, "half": 1.5, "a text": "4"}


@pytest.mark.parametrize("name", BAD)
def test_a_number_of_views_is_a_whole_number_of_one_or_more(tmp_path, name):
    with pytest.raises(fl.DataError, match="views is not a whole number of 1 or more"):
        fill(tmp_path, data=Random(), views=BAD[name])
    with pytest.raises(fl.DataError, match="views is not a whole number of 1 or more"):
        viewed(Random(), "fill", BAD[name])


def test_a_number_of_views_is_one_that_epochs_could_show(tmp_path):
    with pytest.raises(fl.DataError, match="No run shows so many views"):
        fill(tmp_path, data=Random(), views=2**80)
    with pytest.raises(fl.DataError, match="No run shows so many views"):
        viewed(Random(), "fill", 1_000_001)
    assert viewed(Random(), "fill", 1_000_000).count == 1_000_000


def test_streams_have_no_views(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield torch.zeros(6), 0

        def __len__(self):
            return 1

    with pytest.raises(fl.DataError, match="not a map-style dataset"):
        fill(tmp_path, data=Stream(), views=2)


def rows(data, view):
    data.set_epoch(view)
    return torch.stack([features[0] for features, _ in (data[at] for at in range(len(data)))])


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_stored_as_they_are_read(tmp_path, name, workers):
    views = Views(Random(name), K)
    data = fill(tmp_path, data=Random(name), views=K, num_workers=workers)
    assert (len(data), data.views, data.figures.samples, data.figures.computed) == (N, K, N, K * N)
    for view in range(K):
        expected = torch.stack([2 * views[view * N + at][0] for at in range(N)])
        assert torch.equal(rows(data, view), expected)
        assert data.targets.tolist() == [at % 4 for at in range(N)]


def test_the_loader_gives_every_view_before_one_comes_again(tmp_path):
    data = fill(tmp_path, data=Random(), views=K)
    stored = [rows(data, view) for view in range(K)]
    data.set_epoch(0)
    loader = data.loader(4)
    for epoch in range(2 * K + 1):
        found = torch.cat([features[0] for features, _ in loader])
        assert torch.equal(found, stored[epoch % K])
    shuffled = data.loader(4, shuffle=True, seed=3)
    found = torch.cat([features[0] for features, _ in shuffled])
    assert not torch.equal(found, stored[0])
    assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in stored[0].tolist()}


def test_a_loader_goes_on_with_the_view_it_stopped_at(tmp_path):
    data = fill(tmp_path, data=Random(), views=K)
    loader = data.loader(4, shuffle=True, seed=1)
    list(loader)
    rest = iter(loader)
    next(rest)
    state = loader.state_dict()
    again = data.loader(4, shuffle=True, seed=0)
    again.load_state_dict(state)
    ours, theirs = [features[0] for features, _ in rest], [features[0] for features, _ in again]
    assert all(map(torch.equal, ours, theirs))


def test_workers_that_stay_give_the_view_of_the_epoch_that_was_set(tmp_path):
    data = fill(tmp_path, data=Random(), views=K)
    loader = DataLoader(data, batch_size=4, num_workers=1, persistent_workers=True)
    for epoch in (0, 1, 4):
        data.set_epoch(epoch)
        assert torch.equal(torch.cat([features[0] for features, _ in loader]), rows(data, epoch))


def test_a_dataloader_gives_the_view_of_the_epoch_that_was_set(tmp_path):
    data = fill(tmp_path, data=Random(), views=K)
    for epoch in (0, 1, 4):
        data.set_epoch(epoch)
        for workers in (0, 1):
            found = torch.cat([features[0] for features, _ in DataLoader(data, batch_size=4, num_workers=workers)])
            assert torch.equal(found, rows(data, epoch))
        made_anew = torch.cat([features[0] for features, _ in data.loader(4)])
        assert torch.equal(made_anew, rows(data, epoch))
    with pytest.raises(fl.DataError, match="epoch is not a whole number"):
        data.set_epoch(-1)


def test_a_part_has_all_views_of_its_samples(tmp_path):
    data = fill(tmp_path, data=Random(), views=K)
    part = data.part([7, 2, -1])
    assert (len(part), part.views) == (3, K)
    for view in range(K):
        assert torch.equal(rows(part, view), rows(data, view)[[7, 2, N - 1]])
    assert part.targets.tolist() == [3, 2, (N - 1) % 4]


@pytest.mark.parametrize("kind", [Random, Keyed])
def test_more_views_compute_the_new_ones_alone(tmp_path, kind):
    part = Part()
    few = rows(fill(tmp_path, part, kind(), views=2), 1)
    grown = fill(tmp_path, Part(), kind(), views=4)
    assert (grown.figures.computed, grown.figures.reused) == (2 * N, 2 * N)
    assert torch.equal(rows(grown, 1), few)
    shrunk = fill(tmp_path, Part(), kind(), views=1)
    assert (shrunk.figures.computed, shrunk.views) == (0, 1)
    assert torch.equal(rows(shrunk, 0), rows(grown, 0))


def test_known_views_of_keyed_samples_are_not_read(tmp_path):
    fill(tmp_path, data=Keyed(count=40), views=3)

    class Counting(Keyed):
        reads = 0

        def __getitem__(self, index):
            type(self).reads += 1
            return super().__getitem__(index)

    assert fill(tmp_path, data=Counting(count=40), views=3).figures.computed == 0
    assert Counting.reads <= 2 * 16 + 1  # golden rows, twice since its code asks for chance; one shows the generators
    plan = fl.FeatureCache(tmp_path).plan(Part(), Keyed(count=40), views=3)
    assert "120 samples (3 views of 40), 0 to read" in str(plan)


def test_views_of_a_dataset_that_is_not_random_are_said(tmp_path):
    data = fill(tmp_path, data=dataset(), views=3)
    assert any("leave views out" in note for note in data.notes)
    assert data.figures.computed == len(dataset())  # equal items are one row
    assert not any("leave views out" in note for note in fill(tmp_path, data=Random(), views=3).notes)
    assert not any("leave views out" in note for note in fill(tmp_path, data=dataset(), views=1).notes)


class Decoding(Keyed):
    """It counts how often its source is read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.reads = []

    def __getitem__(self, index):
        return self.from_source(self.source(index), index)

    def source(self, index):
        self.reads.append(index)
        return self.inputs[index].clone()

    def from_source(self, source, index):
        source += torch.randn(())  # in place: the next view gets another copy
        return source, index % 4


class Inheriting(Decoding):
    """What it does around the stages that it inherits counts."""

    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        return inputs + 100, target


def test_what_is_not_random_is_done_once_for_all_views(tmp_path):
    own = Decoding()
    data = fill(tmp_path, data=own, views=8)
    assert data.figures.computed == 8 * N
    assert len(own.reads) < 4 * N  # N for the rows; the others show that views can be read again
    plain = [Views(Subset(TensorDataset(own.inputs), range(N)), 1)]
    assert list(plain[0].groups([0, 1])) == [[0], [1]]
    unstaged = fill(tmp_path / "whole", data=Inheriting(), views=8)
    for view in range(8):
        assert torch.allclose(rows(unstaged, view), rows(data, view) + 200)
    workers = fill(tmp_path / "workers", data=Decoding(), views=8, num_workers=2)
    assert torch.equal(rows(workers, 7), rows(data, 7))


class DrawingSource(Decoding):
    """Its source is random, and what follows is not: the loader of an `ImageFolder` may be such a one."""

    def source(self, index):
        return super().source(index) + self.draw()

    def draw(self):
        return torch.rand(())

    def from_source(self, source, index):
        return source, index % 4


class DrawingFromItsOwn(DrawingSource):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)

    def draw(self):
        return float(self.generator.random())


@pytest.mark.parametrize("kind", [DrawingSource, DrawingFromItsOwn])
def test_a_random_source_is_made_anew_for_every_view(kind):
    views, others = Views(kind(), 2), Views(kind(), 2)
    first, second = views[0][0], views[N][0]
    assert not torch.equal(first, second)
    assert torch.equal(others[N][0], second)  # whichever view is read first
    assert torch.equal(others[0][0], first)


@pytest.mark.parametrize("workers", [0, 1])
def test_chance_without_a_seed_is_refused_by_name(tmp_path, workers):
    with pytest.raises(fl.DataError, match="its chance comes from a source without a seed") as error:
        fill(tmp_path, data=Unseedable(), views=2, num_workers=workers)
    assert "urandom in Unseedable.__getitem__" in error.value.received
    assert error.value.where.startswith("dataset[0], view 0")
    assert "instead of urandom" in error.value.do


class Following(TensorDataset):
    """Its chance comes from a clock, which is no generator."""

    def __getitem__(self, index):
        inputs, label = super().__getitem__(index)
        return inputs + torch.randn(()) + time.perf_counter_ns() % 10**6, label


def test_chance_that_nothing_names_is_found_by_reading_again(tmp_path):
    with pytest.raises(fl.DataError, match="its chance comes from a source without a seed") as error:
        fill(tmp_path, data=Following(*dataset().tensors), views=2)
    assert "are not seeded" in error.value.do


class System(Random):
    def __init__(self):
        super().__init__()
        self.system = random.SystemRandom()

    def __getitem__(self, index):
        return self.inputs[index] + self.system.random(), index % 4


def test_a_generator_of_the_system_is_named(tmp_path):
    with pytest.raises(fl.DataError, match="without a seed") as error:
        fill(tmp_path, data=System(), views=2)
    assert "dataset.system, a SystemRandom" in error.value.received
    with pytest.raises(fl.DataError, match="The dataset is random") as error:
        fill(tmp_path, data=System())
    assert "dataset.system, a SystemRandom" in error.value.received


def test_albumentations_is_seeded():
    albumentations = pytest.importorskip("albumentations", reason="no dependency: pip install albumentations")

    class Pictures(Random):
        def __init__(self):
            super().__init__()
            self.pictures = np.random.default_rng(0).integers(0, 256, (N, 24, 24, 3), dtype=np.uint8)
            self.transform = albumentations.Compose([
                albumentations.RandomResizedCrop((16, 16)), albumentations.GaussNoise(p=1),
                albumentations.OneOf([albumentations.Rotate(30), albumentations.CoarseDropout()], p=0.8),
            ])  # fmt: skip

        def __getitem__(self, index):
            return self.transform(image=self.pictures[index])["image"].copy(), index % 4

    first, again = Views(Pictures(), K), Views(Pictures(), K)
    items = [first[at][0] for at in range(K * N)]
    assert all(np.array_equal(again[at][0], items[at]) for at in reversed(range(K * N)))
    assert len({item.tobytes() for item in items}) == K * N
