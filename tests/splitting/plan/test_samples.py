import torch

from frostline.splitting.plan.samples import batch_of, other_values, put_first


def test_samples_are_repeated_where_there_are_too_few():
    example = torch.arange(3.0)
    assert batch_of(example, 2).tolist() == [0, 1]
    assert batch_of(example, 2, start=1).tolist() == [1, 2]
    assert batch_of(example, 5).tolist() == [0, 1, 2, 0, 0]  # not the mean of the smaller batch


def test_one_sample_is_put_first():
    assert put_first({"x": torch.arange(4)}, 2)["x"].tolist() == [2, 0, 1, 3]


def test_other_values_leave_masks_and_integers_as_they_are():
    inputs = (torch.tensor([2.0, 4.0]), torch.tensor([0.0, 1.0]), torch.tensor([2, 4]))
    changed = other_values(inputs)
    assert [part.tolist() for part in changed] == [[1.5, 3.0], [0.0, 1.0], [2, 4]]
