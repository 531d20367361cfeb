"""Collate functions: what they pad with is found; what does more than pad is refused with the reason."""

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.caching.samples.collation import Collated
from helpers_lengths import pad, sentences


@pytest.mark.parametrize(
    ("collate", "reason"),
    [
        (lambda items: pad(items[:2]), "another number of rows"),
        (lambda items: pad(sorted(items, key=lambda item: -len(item[0]))), "sorts"),
        (lambda items: {k: v[:, : min(len(i) for i, _ in items)] if v.dim() > 1 else v for k, v in pad(items).items()},
         "truncates"),
        (lambda items: {**pad(items), "ids": pad(items)["ids"].flip(0)}, "sorts"),
        (lambda items: {**pad(items), "ids": pad(items)["ids"] % (len(items) + 20)}, "changes the values"),
        (lambda items: {**pad(items), "ids": pad(items)["ids"] * torch.randint(1, 9, (1,))}, "is random"),
        (lambda items: {**pad(items), "ids": pad(items)["ids"] * (1 + int(np.random.rand() > 1))}, "is random"),
        (lambda items: {k: v for k, v in pad(items).items() if k != "mask" or len({len(i) for i, _ in items}) > 1},
         "gives other tensors for several samples than for one"),
    ],
)  # fmt: skip
def test_a_function_that_does_more_than_pad_is_refused(collate, reason):
    with pytest.raises(fl.DataError, match=f"does more than pad: it .*{reason}"):
        Collated(sentences(), collate).padding()


def test_value_and_side_of_the_padding_are_found():
    def collate(items):
        ids = torch.nn.utils.rnn.pad_sequence([x for x, _ in items], True, 9, "left")
        labels = torch.nn.utils.rnn.pad_sequence([x for x, _ in items], True, -100, "left")
        return ids, labels

    found = Collated(sentences(), collate).padding()
    assert (found.inputs, found.targets, found.is_left, found.axes) == ({"0": 9}, {"0": -100}, True, {"0": (0,)})


def test_zeros_behind_zeros_say_nothing_of_the_side_of_the_padding():
    def collate(items):
        ids = torch.nn.utils.rnn.pad_sequence([x for x, _ in items], True, 0, "left")
        return {"ids": ids, "types": torch.zeros_like(ids), "labels": torch.tensor([y for _, y in items])}

    found = Collated(sentences(), collate).padding()
    assert (found.inputs, found.is_left) == ({"ids": 0, "types": 0}, True)


def test_padding_on_both_sides_is_refused():
    def collate(items):
        left, right = (torch.nn.utils.rnn.pad_sequence([x for x, _ in items], True, 0, s) for s in ("left", "right"))
        return (left, right), torch.tensor([y for _, y in items])

    with pytest.raises(fl.DataError, match="some tensors on the left and others on the right"):
        Collated(sentences(), collate).padding()


def test_a_function_that_pads_to_one_length_has_nothing_that_varies():
    def collate(items):
        ids = torch.stack([torch.nn.functional.pad(x, (0, 20 - len(x))) for x, _ in items])
        return ids, torch.tensor([y for _, y in items])

    assert not Collated(sentences(), collate).padding().is_varying


def test_a_batch_axis_in_second_place_is_refused():
    with pytest.raises(fl.DataError, match="batch axis of one"):
        Collated(sentences(), lambda items: {k: v.T if v.dim() > 1 else v for k, v in pad(items).items()}).padding()


def test_what_fails_or_is_no_batch_is_told():
    with pytest.raises(fl.DataError, match="collate function fails"):
        Collated(sentences(), lambda items: 1 / 0).padding()
    with pytest.raises(fl.DataError, match="must be \\(inputs, target\\)"):
        Collated(sentences(), lambda items: torch.zeros(len(items), 3)).padding()
    with pytest.raises(fl.DataError, match="gives other tensors for other samples"):
        Collated(
            sentences(), lambda own: ({"a" if len(own[0][0]) > 5 else "b": torch.ones(1)}, torch.ones(1))
        ).padding()
    with pytest.raises(fl.DataError, match="length 0"):
        Collated([(torch.ones(0, dtype=torch.long), 1)], pad)[0]
