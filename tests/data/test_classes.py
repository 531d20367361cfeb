from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

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


class Numbered(Named):
    """Classes as torchvision's folders tell them."""

    def __init__(self, numbers, labels):
        super().__init__(None, labels)
        self.class_to_idx = numbers


class Featured(Mapped):
    """Classes as Hugging Face's datasets tell them."""

    def __init__(self, names, labels, key):
        super().__init__(None, labels, key)
        self.features = {key: SimpleNamespace(names=names)}


def test_names_are_found_wherever_datasets_tell_them():
    found = Numbered({"cat": 1, "bee": 0}, [0]), Featured(["bee", "cat"], [0], "labels")
    assert [class_names(one) for one in found] == [["bee", "cat"]] * 2
    assert class_names(Numbered({"cat": 1, "bee": 3}, [0])) is None
    assert class_names(SimpleNamespace(features={"label": SimpleNamespace(dtype="int64")})) is None
    for val in found:
        assert with_classes_of(TRAIN, val)._renumbered(1) == 2
    joined = ConcatDataset([Named(["bee", "cat"], [0, 1]), Named(["bee"], [0])])
    assert class_names(joined) == ["bee", "cat"]
    assert [with_classes_of(TRAIN, joined)[at] for at in range(3)] == [("bee", 1), ("cat", 2), ("bee", 1)]
    assert class_names(ConcatDataset([TRAIN, TensorDataset(torch.ones(1))])) is None


def test_parts_that_number_their_classes_differently_are_refused_and_the_remedy_works():
    first, second = Named(["ant", "bee", "cat"], [0]), Named(["cat", "ant"], [0, 1])
    with pytest.raises(fl.DataError, match="number their classes differently"):
        class_names(ConcatDataset([first, second]))
    joined = ConcatDataset([first, with_classes_of(first, second)])
    assert class_names(joined) == first.classes
    assert [joined[at][1] for at in range(3)] == [0, 2, 0]


@pytest.mark.parametrize("target", [-1, 2, torch.ones(3), "cat", None])
def test_only_numbers_of_classes_and_ignored_labels_can_be_renumbered(target):
    val = with_classes_of(TRAIN, Named(["cat", "ant"], [0]))
    assert val._renumbered(torch.tensor([1])) == 0
    assert val._renumbered(-100) == -100
    with pytest.raises(fl.DataError, match="no number of a class"):
        val._renumbered(target)
