"""Padding as a value: rows become a batch, and come out of it again."""

import pytest
import torch

from frostline.core.padding import Padding, groups_of_one_size, own_part, pad_rows, sizes_of


@pytest.mark.parametrize("is_left", [False, True])
def test_rows_come_out_as_they_went_in(is_left):
    rows = [torch.randn(2, 3, 4), torch.randn(1, 5, 4)]
    batch = pad_rows(rows, -1, is_left=is_left)
    assert batch.shape == (2, 2, 5, 4)
    for at, row in enumerate(rows):
        assert torch.equal(own_part(batch[at], row.shape, is_left=is_left), row)
    assert (batch == -1).sum() == batch.numel() - sum(row.numel() for row in rows)


def test_a_batch_has_the_structure_of_its_samples():
    padding = Padding({"ids": 7}, {"0": -100}, is_left=True)
    samples = [{"ids": torch.tensor(ids), "size": torch.tensor(len(ids))} for ids in ([1, 2], [3])]
    batch = padding.batch(samples)
    assert batch["ids"].tolist() == [[1, 2], [7, 3]]
    assert batch["size"].tolist() == [2, 1]
    assert padding.batch_of_targets([torch.tensor([1]), torch.tensor([2, 3])]).tolist() == [[-100, 1], [2, 3]]
    assert (padding.value_of("input.ids"), padding.value_of("layer.ids")) == (7, 0)
    assert sizes_of(samples)["ids"] == [(2,), (1,)]
    assert groups_of_one_size([*samples, samples[0]]) == [[0, 2], [1]]
