import threading

import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

import frostline as fl
from frostline.caching import Together
from frostline.caching.fill.planned_fill import fill_as_planned
from frostline.caching.location.location import Location
from frostline.caching.store import opening
from frostline.caching.store.manifest import read_newest


class Threads:
    """Processes that are threads: each has a number, and what one gives all of them get."""

    def __init__(self, count: int) -> None:
        self.count, self._given = count, {}
        self._barrier = threading.Barrier(count)

    def group(self, rank: int):
        outer = self

        class One:
            count = outer.count

            def exchanged(self, own):
                outer._given[rank] = own
                outer._barrier.wait(60)
                found = [outer._given[at] for at in range(outer.count)]
                outer._barrier.wait(60)
                return found

        One.rank = rank
        return One()


def in_threads(fill):
    """Call it for the ranks 0 to 2 at once, and wait."""
    workers = [threading.Thread(target=fill, args=(rank,)) for rank in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_each_reads_a_range_and_all_have_every_row(tmp_path):
    torch.manual_seed(0)
    inputs = torch.randn(50, 4)
    dataset, model = TensorDataset(inputs, torch.arange(50)), nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    fl.freeze(model, through="0")
    split, threads, found = fl.split(model, inputs[:4]), Threads(3), {}
    expected = split.extract(inputs)[0]

    def fill(rank: int) -> None:  # one at a time: splits are of one thread
        found[rank] = fill_as_planned(
            Location(tmp_path), Plain(split), dataset, 8, progress=False, builders=Together(threads.group(rank))
        )

    in_threads(fill)
    for rank in range(3):
        data = found[rank]
        assert data.figures.computed == 50
        features, targets = next(iter(data.loader(50)))
        torch.testing.assert_close(features[0], expected)
        assert torch.equal(targets, torch.arange(50))


def test_a_process_without_a_sample_has_what_all_samples_share(tmp_path):
    threads, found = Threads(3), {}
    dataset = TensorDataset(torch.arange(8.0).reshape(2, 4), torch.arange(2))

    def fill(rank: int) -> None:
        found[rank] = fill_as_planned(
            Location(tmp_path), Sharing(), dataset, 8, progress=False, builders=Together(threads.group(rank))
        )

    in_threads(fill)
    for rank in range(3):
        features, _ = next(iter(found[rank].loader(2)))
        assert [own.tolist() for own in features] == [(dataset.tensors[0] * 2).tolist(), [1.0, 2.0]]


class Sharing:
    """A frozen part with a tensor that all samples share."""

    def __init__(self) -> None:
        self.recipe = {"kind": "sharing"}
        self.frontier = (fl.FrontierTensor("low", (4,), torch.float32, 16, False),
                         fl.FrontierTensor("both", (2,), torch.float32, 0, True))  # fmt: skip

    def extract(self, inputs):
        return inputs * 2, torch.tensor([1.0, 2.0])


class Plain:
    """A frozen part without a model to watch, which threads may share."""

    def __init__(self, split) -> None:
        self.recipe, self.frontier = split.recipe, split.frontier
        self._weight, self._bias = (own.detach().clone() for own in split._model[0].parameters())

    def extract(self, inputs):
        with torch.no_grad():
            return (nn.functional.linear(inputs, self._weight, self._bias).tanh(),)


def test_damage_that_one_of_them_meets_makes_all_of_them_begin_again(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_CHECKED_AT_ONCE", -1)  # shards are checked on their first use
    dataset = TensorDataset(torch.arange(80.0).reshape(20, 4), torch.arange(20))
    threads, found = Threads(3), {}

    def fill(rank: int, data=dataset) -> None:
        found[rank] = fill_as_planned(
            Location(tmp_path), Sharing(), data, 8, progress=False, builders=Together(threads.group(rank))
        )

    fill_as_planned(Location(tmp_path), Sharing(), Subset(dataset, range(6)), 8, progress=False)
    (folder,) = tmp_path.iterdir()
    path = folder / "shards" / read_newest(folder / "manifests")[1].shards[0]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 64]))
    in_threads(fill)  # the first has them all
    for rank in range(3):
        features, _ = next(iter(found[rank].loader(20)))
        assert torch.equal(features[0], dataset.tensors[0] * 2)
        figures = found[rank].figures
        assert figures.computed + figures.reused == 20
        assert figures.computed >= 6  # the others published theirs before they began again
