"""A frozen part, datasets and a cache to fill with them."""

from pathlib import Path

import torch
from torch.utils.data import TensorDataset

import frostline as fl

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


class Items(list):
    pass
