from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from frostline.core.errors import DataError
from frostline.core.item_form import PAIRS, ItemForm, form_by_signature, form_of

Item = namedtuple("Item", "image label index")
TWO, ONE = ItemForm(count=2), ItemForm(count=1)
MASKED = ItemForm(names=frozenset({"ids"}), others=frozenset({"ids", "mask"}))


@pytest.mark.parametrize(
    ("form", "item", "expected"),
    [
        (PAIRS, (1, 2), (1, 2)),
        (PAIRS, {"x": 1, "label": 2}, ({"x": 1}, 2)),
        (TWO, (1, 2, 3), ((1, 2), 3)),
        (TWO, (1, 2, 3, 4), ((1, 2), (3, 4))),
        (TWO, (1, 2), ((1, 2), ())),
        (TWO, ((1, 2), 3), ((1, 2), 3)),
        (ONE, (1, 2), (1, 2)),
        (ONE, (1,), (1, ())),
        (ONE, Item(1, 2, 3), (1, (2, 3))),
        (MASKED, {"ids": 1}, ({"ids": 1}, ())),
        (MASKED, {"ids": 1, "tags": 2}, ({"ids": 1}, 2)),
        (MASKED, {"ids": 1, "tags": 2, "boxes": 3}, ({"ids": 1}, {"tags": 2, "boxes": 3})),
        (MASKED, {"ids": 1, "label": 2}, ({"ids": 1}, 2)),
        # what the model could take never becomes a target: the example lacked it
        (MASKED, {"ids": 1, "mask": 2}, ({"ids": 1, "mask": 2}, ())),
    ],
)
def test_an_item_becomes_inputs_and_a_target(form, item, expected):
    assert form.unpack(item, 0) == expected


def test_a_tensor_or_an_array_alone_is_an_input_without_a_target():
    for item in (torch.ones(3), np.ones(3)):
        inputs, target = ONE.unpack(item, 0)
        assert (inputs.sum(), inputs is item, target) == (3, False, ())


@pytest.mark.parametrize(
    ("form", "item"), [(PAIRS, (1, 2, 3)), (PAIRS, torch.ones(2)), (TWO, (1,)), (MASKED, {"tags": 1}), (TWO, 5)]
)
def test_an_item_of_another_form_is_refused(form, item):
    with pytest.raises(DataError, match="A dataset item must be"):
        form.unpack(item, 3)


class Net(nn.Module):
    def forward(self, ids, mask=None, labels=None): ...


class Wrapped(nn.Module):
    def forward(self, *args, **kwargs): ...


def test_the_form_follows_from_an_example_or_from_what_forward_cannot_do_without():
    assert form_of(torch.ones(2), Net().forward) == ONE
    assert form_of((torch.ones(2), torch.ones(2)), Net().forward) == TWO
    assert form_of({"ids": 1, "labels": 2}, Net().forward) == ItemForm(
        frozenset({"labels"}), names=frozenset({"ids", "labels"}), others=frozenset({"ids", "mask"})
    )
    assert form_by_signature(Net().forward) == ItemForm(count=1, others=frozenset({"ids", "mask"}))
    # a wrapper takes any name: no key of an item can be told to be its target
    assert form_by_signature(Wrapped().forward).unpack({"a": 1, "b": 2}, 0) == ({"a": 1, "b": 2}, ())
    assert form_by_signature(nn.Bilinear(1, 1, 1).forward) == ItemForm(count=2, others=frozenset({"input1", "input2"}))
