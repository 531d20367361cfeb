"""A model and a cache that is filled at its frost lines, one after the other."""

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
        made = fill_as_planned(self.cache.location, split, self.data, 32, progress=False, earlier=earlier)
        self.filled[through] = made
        return made

    def middle(self):
        """The layers between the first line and the one that the model has now."""
        low = self.splits["1"]
        return remembered_split(low.head, low.extract(self.data.tensors[0][:4]), None)

    def climb(self, through: str = "3", middle=None):
        return self.fill(through, Earlier(self.filled["1"], middle or self.middle))


class Watched:
    """A frozen part that tells of the size of each batch."""

    def __init__(self, part, tell) -> None:
        self.part, self.frontier, self.tell = part, part.frontier, tell

    def extract(self, inputs):
        found = self.part.extract(inputs)
        self.tell(len(found[0]))
        return found
