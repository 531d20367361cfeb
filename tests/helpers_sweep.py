"""Small rows and small heads, and heads trained one by one with torch alone."""

import tempfile
from functools import partial

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import frostline as fl
from frostline.recipes.sweep import _optimizer
from frostline.selection import Ways, read_settings
from frostline.training import OPTIMIZERS, make_joint_loss, make_loss, output_of

N, D, H, C = 96, 6, 12, 3


def rows(count: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x_ND = torch.randn(count, D, generator=generator)
    return x_ND, x_ND[:, :C].argmax(1)


class Samples(Dataset):
    """The rows as samples, moved at random if asked for."""

    def __init__(self, noise=0.0, count=N):
        self.inputs, self.labels = rows(count)
        self.noise = noise

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        inputs = self.inputs[index]
        return inputs + self.noise * torch.randn(D) if self.noise else inputs, int(self.labels[index])


def batch(count: int = 16) -> tuple[tuple[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    h_BH = torch.randn(count, H, generator=generator)
    return (h_BH,), h_BH[:, :C].argmax(1)


def ways(loss="cross_entropy") -> Ways:
    return Ways(make_loss(loss), make_joint_loss(loss), _optimizer, output_of)


settings = partial(read_settings, optimizers=OPTIMIZERS, seed=0)


def model(*top: nn.Module) -> nn.Sequential:
    """A frozen layer, and what is trained above it: a linear layer if nothing is given."""
    made = nn.Sequential(nn.Sequential(nn.Linear(D, H), nn.ReLU()), *(top or (nn.Linear(H, C),)))
    torch.manual_seed(1)
    for layer in made.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    fl.freeze(made, through="0")
    return made


def cached(made: nn.Module, targets: torch.Tensor | None = None, count: int = N):
    """(split, rows) of a model."""
    x_ND, y_N = rows(count)
    split = fl.split(made, x_ND[:4])
    with tempfile.TemporaryDirectory() as folder:
        data = TensorDataset(x_ND, y_N if targets is None else targets)
        return split, fl.FeatureCache(folder).fill(split, data, progress=False)


def sweep(head, data, settings, **options):
    options = {"progress": False, "epochs": 2, "batch_size": 16, **options}
    return fl.sweep(head, data, settings, **options)
