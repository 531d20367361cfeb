"""The frozen parts and samples of the golden caches; nothing here may change, for the caches were filled with them.

`PYTHONPATH=src python tests/helpers_golden.py FOLDER` fills them with the version at hand; where a version
lacks an option, that cache is left out. Each lies in `tests/caching/golden/<date of its version>-<commit>/`.
"""

import sys
from pathlib import Path

import torch

import frostline as fl

N, D = 12, 3


class Doubled:
    """Doubles its inputs; a mask goes to the head untouched."""

    recipe = {"name": "golden doubles"}  # noqa: RUF012 (a constant)
    frontier = (
        fl.FrontierTensor("low", (D,), torch.float32, 4 * D, False),
        fl.FrontierTensor("input.mask", (1,), torch.float32, 4, False),
    )

    def extract(self, inputs):
        return inputs["x"] * 2, inputs["mask"]


class Halved:
    """Two outputs of other types, and one that all samples share."""

    recipe = {"name": "golden halves"}  # noqa: RUF012 (a constant)
    frontier = (
        fl.FrontierTensor("half", (D,), torch.bfloat16, 2 * D, False),
        fl.FrontierTensor("whole", (), torch.int64, 8, False),
        fl.FrontierTensor("table", (2, D), torch.float32, 0, True),
    )

    def extract(self, inputs):
        return (inputs / 2).bfloat16(), inputs[:, 0].long(), torch.arange(2.0 * D).view(2, D)


def values(index):
    """(D,) of a sample."""
    return torch.tensor([float(index * D + at + 1) for at in range(D)])


class Items:
    """Samples without keys: their keys follow from the items."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return values(index), index % 4


class Offering:
    """Samples that offer keys, with a mask."""

    fingerprint = "golden"

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {"x": values(index), "mask": torch.tensor([-float(index)]), "label": index % 4}

    def sample_key(self, index):
        return index.to_bytes(8, "little")

    def target(self, index):
        return index % 4


class Shifted(Items):
    """A random dataset."""

    def __getitem__(self, index):
        return values(index) + torch.rand(()), index % 4


# name -> (frozen part, dataset, options of fill)
CACHES = {
    "offered": (Doubled, Offering, {}),
    "items": (Halved, Items, {}),
    "int8": (Doubled, Offering, {"storage": "int8"}),
    "float16": (Doubled, Offering, {"storage": "float16"}),
    "views": (Halved, Shifted, {"views": 2}),
}


def fill(root, name):
    """One of the caches; it is complete already if it is a golden one."""
    part, dataset, options = CACHES[name]
    return fl.FeatureCache(root).fill(part(), dataset(), progress=False, batch_size=5, **options)


if __name__ == "__main__":
    for own in CACHES:
        try:
            print(own, fill(Path(sys.argv[1]) / own, own).figures)
        except TypeError as error:  # this version has no such option
            print(own, error)
