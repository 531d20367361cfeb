import random

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import frostline as fl
from helpers_caching import D, Items, dataset, fill


class Random(TensorDataset):
    def __init__(self, draw):
        super().__init__(*dataset().tensors)
        self.draw = draw

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + self.draw(), label


PRIVATE = np.random.default_rng(0)


DRAWS = {
    "python": random.random,
    "numpy": np.random.rand,
    "torch": lambda: torch.rand(()),
    "private": PRIVATE.random,
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_random_dataset_is_refused(tmp_path, name, workers):
    with pytest.raises(fl.DataError, match="The dataset is random") as error:
        fill(tmp_path, data=Random(DRAWS[name]), num_workers=workers)
    assert "cache=False" in error.value.do


BAD = {
    "not a pair": (Items([(torch.ones(D),)] * 3), "must be \\(inputs, target\\)"),
    "differing shapes": (Items([(torch.ones(D), 0), (torch.ones(D + 1), 1)]), "do not fit together"),
    "no bytes": (Items([(object(), 0)] * 2), "cannot be fingerprinted"),
    "empty": (Items(), "dataset is empty"),
    "a text as target": (Items([(torch.ones(D), "cat")] * 2), "targets are not numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_items_are_refused(tmp_path, name):
    data, text = BAD[name]
    with pytest.raises(fl.DataError, match=text):
        fill(tmp_path, data=data)
    assert not list(tmp_path.rglob("*.part"))


def test_an_unreadable_item_says_which(tmp_path):
    class Broken(TensorDataset):
        def __getitem__(self, index):
            if index == 17:
                raise OSError("truncated")
            return super().__getitem__(index)

    with pytest.raises(fl.DataError, match="cannot be read") as error:
        fill(tmp_path, data=Broken(*dataset().tensors))
    assert error.value.where == "dataset[17]"
