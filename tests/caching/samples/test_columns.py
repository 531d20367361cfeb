"""Values of samples, kept side by side where they are of one kind, read back and joined as they were given."""

import numpy as np
import pytest
import torch

from frostline.caching.reading.cached_dataset import check_targets
from frostline.caching.samples.columns import Column
from frostline.core import disk_array
from frostline.core.collate import collate_targets


def test_the_default_type_of_the_caller_is_not_asked():
    torch.set_default_dtype(torch.bfloat16)  # as `precision="bf16-true"` does while it runs
    try:
        column = Column(2)
        column[0], column[1] = 3, 5
    finally:
        torch.set_default_dtype(torch.float32)
    assert [*column] == [3, 5]


KINDS = {
    "int": [3, -1, 2**40], "float": [0.1, 2.0, -1e300], "int64": [np.int64(5), np.int64(-2), np.int64(7)],
    "tensors": [torch.tensor(2), torch.tensor(5), torch.tensor(-3)],
    "vectors": [torch.rand(4), torch.rand(4), torch.rand(4)],
    "halves": [torch.ones(2, dtype=torch.bfloat16)] * 3, "truths": [torch.tensor(True), torch.tensor(False)] * 2,
}  # fmt: skip
OTHERS = {
    "mixed": [1, torch.tensor(2), 3.5], "truth": [True, False], "float32": [np.float32(1.5)] * 2,
    "float64": [np.float64(0.1)] * 2, "int32": [np.int32(3)] * 2, "uint8": [np.uint8(200)] * 2,
    "unsigned": [torch.tensor(4, dtype=torch.uint16)] * 2, "pairs": [(1, 2.0), (3, 4.0)],
    "arrays": [np.arange(3)] * 2,
}  # fmt: skip


def filled(values, folder=None):
    column = Column(len(values), folder)
    for index in reversed(range(len(values))):
        column[index] = values[index]
    return column


def is_same(one, other):
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("name", [*KINDS, *OTHERS])
def test_values_come_back_and_join_as_they_do_one_by_one(name, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_array, "_LEAST_BYTES", 1)
    values = (KINDS | OTHERS)[name]
    column = filled(values, tmp_path)
    assert (column.tensor() is not None) == (name in KINDS)
    assert [type(own) for own in column] == [type(own) for own in values]
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(column, values, strict=True))
    joined, sizes = check_targets(column)
    assert is_same(joined, collate_targets(values, range(len(values))))
    assert sizes is None


@pytest.mark.parametrize("late", [2**70, "text", None, 2.5])
def test_a_value_of_another_kind_leaves_the_others_as_they_were(late):
    values = [4, 5, late, 6]
    column = filled(values)
    assert list(column) == values
    assert column.tensor() is None


def test_a_value_that_leaves_this_process_takes_no_other_with_it():
    column = filled([torch.rand(3) for _ in range(9)])
    assert column[4].untyped_storage().nbytes() == 12


def test_nothing_is_known_before_it_is_set():
    column = Column(2)
    assert (len(column), column[1], column.tensor()) == (2, None, None)
