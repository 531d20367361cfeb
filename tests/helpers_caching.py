"""A frozen part, datasets and a cache to fill with them."""

from pathlib import Path

import torch
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.keys import recipe_key

D, N = 6, 40


class Part:
    """A frozen part that counts its samples."""

    def __init__(self, scale: float = 2.0) -> None:
        self.recipe = {"scale": str(scale)}
        self.frontier = (fl.FrontierTensor("low", (D,), torch.float32, 4 * D, False),)
        self.scale, self.samples = scale, 0

    def extract(self, inputs):
        self.samples += len(inputs)
        return (inputs * self.scale,)


def dataset(count: int = N) -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    return TensorDataset(torch.randn(count, D, generator=generator), torch.arange(count) % 4)


def fill(root, part=None, data=None, **options):
    return fl.FeatureCache(root).fill(part or Part(), dataset() if data is None else data, progress=False, **options)


def opened_in(cache: fl.FeatureCache):
    """What is stored of the rows of `Part`."""
    return cache.location.opened(recipe_key(Part()), Part().frontier)


def shards(root) -> list[Path]:
    return sorted(Path(root).glob("*/shards/*.safetensors"), key=lambda p: p.stat().st_size)


class Offering:
    """A dataset with sample keys; it counts what it decodes."""

    fingerprint = "plain"

    def __init__(self, count: int = N, shift: int = 0) -> None:
        self.inputs, labels = dataset(count).tensors
        self.labels, self.decoded, self.shift = labels.tolist(), 0, shift

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.decoded += 1
        return self.inputs[index], self.labels[index] + self.shift

    def sample_key(self, index):
        return index.to_bytes(16, "little")

    def target(self, index):
        return self.labels[index] + self.shift


class MaskedPart(Part):
    """A frozen part with an input that goes straight to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.frontier += (fl.FrontierTensor("input.mask", (2,), torch.float32, 8, False),)

    def extract(self, inputs):
        return (*super().extract(inputs["x"]), inputs["mask"])


class Masked(Offering):
    """Its samples are mappings with a mask: those from `start` to `stop` of a pool."""

    def __init__(self, start: int = 0, stop: int = N) -> None:
        super().__init__(200)
        self.inputs, self.labels, self.start = self.inputs[:stop], self.labels[:stop], start

    def __len__(self):
        return len(self.inputs) - self.start

    def __getitem__(self, index):
        self.decoded += 1
        at = index + self.start
        return {"x": self.inputs[at], "mask": torch.tensor([float(at), 1.0]), "label": self.labels[at]}

    def sample_key(self, index):
        return super().sample_key(index + self.start)

    def target(self, index):
        return super().target(index + self.start)


class Items(list):
    pass
