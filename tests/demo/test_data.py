import torch

from frostline.data import Arrays
from frostline.demo.data import accuracy, few_per_class, load_digits_task, load_placed_task


def test_the_two_tasks_share_no_image():
    train, test = load_digits_task(range(5, 10))
    keys = [{data.sample_key(at) for at in range(len(data))} for data in (train, test)]
    assert keys[0].isdisjoint(keys[1])
    assert train.inputs.shape[1:] == (1, 32, 32)
    assert few_per_class(train, 5, 0).labels.bincount().tolist() == [5] * 5


def test_placed_scans_lie_anywhere_in_the_field_and_are_the_same_in_every_run():
    (train, test), (again, _) = load_placed_task(range(5), copies=2), load_placed_task(range(5), copies=2)
    assert torch.equal(train.inputs, again.inputs)
    once, held_out = load_placed_task(range(5))
    assert (len(train), len(test)) == (2 * len(once), len(held_out))
    first, second = train.inputs[: len(once)], train.inputs[len(once) :]
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.sum((1, 2, 3)), second.sum((1, 2, 3)))  # the same scans at other places
    tops = (train.inputs[:, 0] > 0).any(dim=2).int().argmax(dim=1)
    assert len(tops.unique()) > 5


def test_accuracy_is_the_share_of_right_answers():
    images = torch.eye(4)[:, None]
    task = Arrays(images, torch.tensor([0, 1, 2, 0]))
    assert accuracy(torch.nn.Flatten(), Arrays(images.reshape(4, 1, 4), task.labels)) == 0.75
