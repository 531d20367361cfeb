import pytest
import torch
from torch.utils.data import Subset, TensorDataset

import frostline as fl
from frostline.data.classes import class_names, with_classes_of


class Named:
    """Items whose input is the name of their class."""

    def __init__(self, classes, labels):
        self.classes, self.labels = classes, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.classes[self.labels[index]], self.labels[index]

    def target(self, index):
        return self.labels[index]


TRAIN = Named(["ant", "bee", "cat"], [0, 1, 2])


def test_labels_are_mapped_by_the_names_of_their_classes():
    val = with_classes_of(TRAIN, Named(["ant", "cat"], [1, 0, 1]))
    assert [val[at] for at in range(3)] == [("cat", 2), ("ant", 0), ("cat", 2)]
    assert [val.target(at) for at in range(3)] == [2, 0, 2]
    assert class_names(val) == TRAIN.classes


def test_the_same_classes_and_datasets_without_names_are_left_alone():
    same, plain = Named(["ant", "bee"], [0]), TensorDataset(torch.zeros(2, 1), torch.zeros(2))
    assert with_classes_of(TRAIN, same) is same
    assert with_classes_of(TRAIN, plain) is plain
    assert with_classes_of(plain, TRAIN) is TRAIN
    assert class_names(plain) is None
    assert class_names(Subset(TRAIN, [0])) == TRAIN.classes


def test_an_unknown_class_is_refused():
    with pytest.raises(fl.DataError, match="a class that the training data lacks: 'dog'"):
        with_classes_of(TRAIN, Named(["ant", "dog"], [0]))


class Mapped(Named):
    """Items as mappings, of the kind of Hugging Face's datasets."""

    fingerprint = "mapped"

    def __init__(self, classes, labels, key):
        super().__init__(classes, labels)
        self.key = key

    def __getitem__(self, index):
        return {"x": index, "weight": 1, self.key: self.labels[index]}

    def sample_key(self, index):
        return bytes([index])


@pytest.mark.parametrize("key", ["label", "labels"])
def test_only_the_label_of_a_mapping_is_mapped(key):
    val = with_classes_of(TRAIN, Mapped(["bee", "ant"], [1, 0, 0], key))
    assert [val[at] for at in range(3)] == [{"x": at, "weight": 1, key: label} for at, label in enumerate([0, 1, 1])]
    assert (len(val), val.sample_key(2), val.fingerprint) == (3, b"\x02", "mapped")


def test_fewer_classes_in_the_same_order_are_left_alone_and_numbers_are_no_names():
    fewer = Named(["ant", "bee"], [1])
    assert with_classes_of(TRAIN, fewer) is fewer
    assert class_names(Named([1, 2], [0])) is None
    assert class_names(Named("ab", [0])) is None
    more = Named([*TRAIN.classes, "dog"], [3])
    with pytest.raises(fl.DataError, match="lacks: 'dog'"):
        with_classes_of(TRAIN, more)
