import numpy as np
import pytest
import torch

import frostline as fl
from frostline.core.collate import collate, collate_targets, collated


def test_floats_become_float32_targets():
    assert collate_targets([0.5, 1.0], [0, 1]).dtype == torch.float32
    assert collate_targets([torch.tensor(1), 2], [0, 1]).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("items", "what", "received"),
    [
        ([torch.zeros(2), torch.zeros(2).double()], "do not fit together", "float64 (2,); dataset[7] is float32 (2,)"),
        ([{"x": torch.zeros(2)}, {"x": torch.zeros(3)}], "do not fit together", "{x: float32 (3,)}"),
        ([None, None], "cannot be stacked", "NoneType"),
    ],
)
def test_samples_that_make_no_batch_are_told_apart(items, what, received):
    with pytest.raises(fl.DataError, match=what) as error:
        collate(items, [7, 8])
    assert received in error.value.received


def test_targets_of_which_some_are_no_numbers_are_named():
    for odd in (None, "cat", b"cat"):
        with pytest.raises(fl.DataError, match="targets are not numbers") as error:
            collate_targets([1, odd, 2], [4, 5, 6])
        assert error.value.where == "dataset[5]"
        assert str(odd) in error.value.received


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
def test_unsigned_targets_become_whole_numbers_that_torch_can_compare(kind):
    found = collate_targets([kind(3), kind(0)], [0, 1])
    assert (found.dtype, found.tolist()) == (torch.int64, [3, 0])
    arrays = collate_targets([np.array([3], kind), np.array([0], kind)], [0, 1])
    assert (arrays.dtype, arrays.tolist()) == (torch.int64, [[3], [0]])


@pytest.mark.parametrize(
    ("targets", "dtype"),
    [([1, 2], torch.int64), ([1, 2.5], torch.float32), ([torch.tensor(1.5), 2], torch.float32),
     ([np.float64(0.5), 1], torch.float32), ([True, 2], torch.int64)],
)  # fmt: skip
def test_targets_of_several_kinds_become_one(targets, dtype):
    found = collate_targets(targets, range(2))
    assert (found.dtype, found.tolist()) == (dtype, [float(x) if dtype == torch.float32 else int(x) for x in targets])


def test_samples_that_require_gradients_are_data():
    stacked = collate([(torch.ones(2, requires_grad=True), 1), (torch.ones(2, requires_grad=True), 0)], [0, 1])
    assert not stacked[0].requires_grad


def test_an_object_that_a_collate_function_returns_is_told_with_the_remedy():
    class Graphs:  # a batch of graphs
        x = torch.ones(2)

    with pytest.raises(fl.DataError, match="no tensor") as error:
        collated((Graphs(), torch.ones(2)))
    assert "edge_index" in error.value.do
    assert torch.equal(collated({"x": [1, 2]})["x"][1], torch.tensor(2))
