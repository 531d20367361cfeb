import pytest
import torch

import frostline as fl
from frostline.data import Arrays, Part, split_share


def test_positions_that_are_not_there_are_refused():
    data = Arrays(torch.randn(6, 2), torch.arange(6) % 2)
    assert [*Part(data, [0, -1, 5]).indices] == [0, 5, 5]  # a dataset's own methods need not know -1
    for wrong in ([6], [-7], [0.5], ["1"], None):
        with pytest.raises(fl.DataError):
            Part(data, wrong)
    with pytest.raises(fl.DataError, match="samples that are there"):
        Part(data, [0, 6])


def test_a_dataset_without_labels_is_refused():
    with pytest.raises(fl.DataError, match="has no labels that can be read"):
        split_share([(torch.zeros(2), 0)], 0.5, 0)


def test_a_share_of_every_class_is_held_out():
    data = Arrays(torch.rand(50, 2), torch.arange(50) % 5)
    train, val = split_share(data, 0.2, 3)
    assert sorted(int(val[at][1]) for at in range(len(val))) == sorted([0, 1, 2, 3, 4] * 2)
    assert set(train.indices).isdisjoint(val.indices)
    assert val.sample_key(0) == data.sample_key(val.indices[0])
    assert val.target(0) == data.target(val.indices[0])
    assert split_share(data, 0.2, 3)[1].indices == val.indices
    assert split_share(data, 0.2, 4)[1].indices != val.indices


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_leaves_both_parts_samples(share):
    data = Arrays(torch.rand(50, 2), torch.arange(50) % 5)
    with pytest.raises(fl.DataError, match="leaves training or validation without samples"):
        split_share(data, share, 0)


@pytest.mark.parametrize("share", [0, -0.5, 1, 1.5])
def test_a_share_is_between_0_and_1(share):
    with pytest.raises(fl.DataError, match="share is not a finite number above 0 and below 1"):
        split_share(Arrays(torch.rand(50, 2), torch.arange(50) % 5), share, 0)


def test_a_part_offers_what_its_dataset_offers():
    data = Arrays(torch.randn(6, 2), torch.arange(6) % 2)
    part = Part(data, [4, -1])
    assert [part.target(at) for at in (0, 1)] == [0, 1]
    assert (part.sample_key(1), part.fingerprint) == (data.sample_key(5), data.fingerprint)
    assert torch.equal(part[1][0], data.inputs[5])
    plain = Part([(1, 2), (3, 4)], [1])
    assert (len(plain), plain[0], hasattr(plain, "sample_key"), hasattr(plain, "target")) == (1, (3, 4), False, False)


def test_a_share_that_takes_every_sample_of_small_classes_is_refused():
    with pytest.raises(fl.DataError, match="without samples"):
        split_share(Arrays(torch.rand(3, 2), torch.arange(3)), 0.9, 0)
    with pytest.raises(fl.DataError, match="not a map-style dataset"):
        Part(iter([1]), [0])
