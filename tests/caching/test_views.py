import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import frostline as fl
from frostline.caching.views import Views
from helpers_caching import D, N, Offering, Part, dataset, fill

K = 3
PRIVATE = np.random.default_rng(0)


class Drawing(TensorDataset):
    """Every item is another one: it is drawn from one source of chance."""

    def __init__(self, draw, **attributes):
        super().__init__(*dataset().tensors)
        self.draw = draw
        vars(self).update(attributes)

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + self.draw(self), label


DRAWS = {
    "python": lambda own: random.random(),
    "numpy": lambda own: float(np.random.rand()),
    "numpy normal": lambda own: float(np.random.randn()),
    "torch": lambda own: torch.randn(()),
    "a global": lambda own: PRIVATE.random(),
    "numpy generator": lambda own: own.rng.random(),
    "numpy before 1.17": lambda own: own.old.randn(),
    "python generator": lambda own: own.python.gauss(0, 1),
    "torch generator": lambda own: torch.randn((), generator=own.torch),
}


def drawing(name, seed=None):
    return Drawing(
        DRAWS[name], rng=np.random.default_rng(seed), old=np.random.RandomState(seed), python=random.Random(seed),
        torch=torch.Generator(),
    )  # fmt: skip


def rows(data, view):
    data.set_epoch(view)
    return torch.stack([features[0] for features, _ in (data[at] for at in range(len(data)))])


@pytest.mark.parametrize("name", DRAWS)
def test_a_view_is_the_same_in_any_order_and_two_differ(name):
    views, again = Views(drawing(name), K), Views(drawing(name), K)
    first = [views[at][0] for at in range(len(views))]
    torch.rand(7), random.random(), np.random.rand()
    for at in reversed(range(len(again))):
        assert torch.equal(again[at][0], first[at])
    assert len({float(item[0]) for item in first}) == K * N


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_stored_as_they_are_read(tmp_path, name, workers):
    views = Views(drawing(name), K)
    data = fill(tmp_path, data=drawing(name), views=K, num_workers=workers)
    assert (len(data), data.views, data.figures.samples, data.figures.computed) == (N, K, N, K * N)
    for view in range(K):
        expected = torch.stack([2 * views[view * N + at][0] for at in range(N)])
        assert torch.equal(rows(data, view), expected)
