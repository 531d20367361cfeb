import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching import Earlier, fill_as_planned
from frostline.splitting import remembered_split


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(6, 6), nn.Tanh())), nn.Linear(6, 2))


class Counted(TensorDataset):
    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


def dataset(count: int = 200) -> Counted:
    inputs = torch.linspace(-1, 1, count * 6).view(count, 6).sin()
    return Counted(inputs, torch.arange(count) % 2)


class Run:
    """A model, and one cache that is filled at its frost lines."""

    def __init__(self, folder, data, model=None):
        self.model, self.data, self.cache = model or network(), data, fl.FeatureCache(folder)
        self.splits, self.filled = {}, {}

    def fill(self, through: str, earlier: Earlier | None = None):
        fl.thaw(self.model)
        fl.freeze(self.model, through=through)
        self.splits[through] = split = fl.split(self.model, self.data.tensors[0][:4])
        self.data.reads = 0
        made = fill_as_planned(self.cache, split, self.data, 32, progress=False, earlier=earlier)
        self.filled[through] = made
        return made

    def middle(self):
        """The layers between the first line and the one that the model has now."""
        low = self.splits["1"]
        return remembered_split(low.head, low.extract(self.data.tensors[0][:4]), None)

    def climb(self, through: str = "3", middle=None):
        return self.fill(through, Earlier(self.filled["1"], middle or self.middle))


def test_rows_of_a_higher_line_are_computed_from_those_of_a_lower_one(tmp_path):
    run = Run(tmp_path / "a", dataset())
    run.fill("1")
    climbed = run.climb()
    assert run.data.reads == 16  # the golden rows
    assert (climbed.figures.computed, climbed.figures.reused) == (200, 0)
    assert "computed from those of the line below" in climbed.notes[-1]
    for ours, theirs in zip(climbed, Run(tmp_path / "b", dataset()).fill("3"), strict=True):
        assert torch.equal(ours[0][0], theirs[0][0])
        assert ours[1] == theirs[1]
    again = Run(tmp_path / "a", dataset()).fill("3")  # by anybody, later
    assert (again.figures.computed, again.figures.reused) == (0, 200)


def test_a_lower_line_goes_back_to_its_rows_and_reads_nothing_again(tmp_path):
    run = Run(tmp_path, dataset())
    run.fill("1")
    back = run.fill("1", Earlier(run.fill("3")))
    assert (back.figures.computed, back.figures.reused, run.data.reads) == (0, 200, 16)
    assert [int(target) for _, target in back] == [int(target) for target in run.data.tensors[1]]


def test_without_a_middle_the_items_are_read(tmp_path):
    run = Run(tmp_path, dataset())
    assert run.fill("1", Earlier(run.fill("3"))).figures.computed == 200
    assert run.climb("5", lambda: None).figures.computed == 200
    run.fill("3")
    middle = run.middle()
    assert Earlier(run.filled["1"], lambda: middle).climb(run.splits["5"]) is None  # it ends at another line
    assert Earlier(run.filled["1"]).climb(run.splits["3"]) is None


def test_rows_that_are_stored_twice_or_known_are_computed_once(tmp_path):
    inputs, targets = dataset(50).tensors
    double = Counted(torch.cat([inputs, inputs]), torch.cat([targets, targets]))
    Run(tmp_path, dataset(50)).fill("3")
    for folder, computed in ((tmp_path, 0), (tmp_path / "new", 50)):
        run = Run(folder, double)
        run.fill("1")
        assert run.climb().figures.computed == computed


def test_a_middle_that_computes_something_else_is_seen(tmp_path):
    run = Run(tmp_path, dataset())
    run.fill("1")
    other = network()
    with torch.no_grad():
        other[2].weight += 0.1
    wrong = Run(tmp_path / "other", dataset(), other)
    wrong.fill("1")
    wrong.fill("3")
    with pytest.raises(fl.CacheError, match="Stored features are not what the model computes"):
        run.climb(middle=wrong.middle)
    assert {entry.tensors: entry.rows for entry in run.cache.entries()} == {("1",): 200, (): 0}


def test_all_batches_have_one_size_and_every_row_is_stored_once(tmp_path):
    run = Run(tmp_path, dataset())
    run.fill("1")
    sizes = []

    class Watched:  # a part that decides by the size of its batch proves every size that it meets
        def __init__(self, part):
            self.part, self.frontier = part, part.frontier

        def extract(self, inputs):
            found = self.part.extract(inputs)
            sizes.append(len(found[0]))
            return found

    climbed = run.climb(middle=lambda: Watched(run.middle()))
    assert sizes == [32] * 7  # 200 rows
    assert (climbed.figures.computed, len(climbed)) == (200, 200)
