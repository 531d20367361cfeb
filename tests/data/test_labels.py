import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from frostline.data import Arrays, Part, labels_of, split_share

LABELS = [0, 2, 1, 1, 0, 2]


class Held:
    def __init__(self, name, labels):
        setattr(self, name, labels)

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        return torch.ones(2), LABELS[index]


WHOLE = Held("targets", LABELS)


@pytest.mark.parametrize(
    "dataset",
    [
        WHOLE, Held("labels", torch.tensor(LABELS, dtype=torch.uint8)), Held("targets", np.array(LABELS)[:, None]),
        TensorDataset(torch.ones(6, 2), torch.tensor(LABELS)), Arrays(torch.ones(6, 2), torch.tensor(LABELS)),
        Subset(WHOLE, range(6)), ConcatDataset([Subset(WHOLE, [0, 1]), Part(WHOLE, [2, 3, 4, 5])]),
    ],
)  # fmt: skip
def test_labels_are_found_where_datasets_keep_them(dataset):
    assert labels_of(dataset).tolist() == LABELS
    train, val = split_share(dataset, 0.5, 0)
    assert sorted(int(val[at][1]) for at in range(3)) == [0, 1, 2]
    assert len(train) == 3


@pytest.mark.parametrize(
    "dataset",
    [
        Held("targets", LABELS[:4]), Held("labels", ["a"] * 6), Held("labels", [0.5] * 6), Held("labels", None),
        Held("targets", torch.ones(6, 3).long()), Held("labels", [True] * 6), [(1, 2)] * 6,
        ConcatDataset([WHOLE, Held("targets", LABELS[:4])]), Subset(Held("labels", None), [0]),
        TensorDataset(torch.ones(6, 2)),
    ],
)  # fmt: skip
def test_what_is_no_label_of_every_sample_is_none(dataset):
    assert labels_of(dataset) is None
