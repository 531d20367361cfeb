import torch

from frostline.data import Arrays
from frostline.demo.data import accuracy, few_per_class, load_digits_task


def test_the_two_tasks_share_no_image():
    train, test = load_digits_task(range(5, 10))
    keys = [{data.sample_key(at) for at in range(len(data))} for data in (train, test)]
    assert keys[0].isdisjoint(keys[1])
    assert train.inputs.shape[1:] == (1, 32, 32)
    assert few_per_class(train, 5, 0).labels.bincount().tolist() == [5] * 5


def test_accuracy_is_the_share_of_right_answers():
    images = torch.eye(4)[:, None]
    task = Arrays(images, torch.tensor([0, 1, 2, 0]))
    assert accuracy(torch.nn.Flatten(), Arrays(images.reshape(4, 1, 4), task.labels)) == 0.75
