"""Samples of one size wait for each other; not for ever."""

import torch

from frostline.caching.fill.sample_groups import SampleGroups


def test_samples_of_one_size_make_a_batch():
    waiting = SampleGroups(2, is_one_size=False)
    assert waiting.add(0, torch.zeros(3)) == waiting.add(1, torch.zeros(4)) == []
    (group,) = waiting.add(2, torch.zeros(3))
    assert list(group) == [0, 2]
    assert [list(own) for own in waiting.rest()] == [[1]]


def test_all_samples_make_a_batch_where_they_have_one_size():
    waiting = SampleGroups(2, is_one_size=True)
    waiting.add(0, torch.zeros(3))
    assert [list(own) for own in waiting.add(1, torch.zeros(4))] == [[0, 1]]


def test_a_bounded_number_of_samples_waits():
    waiting = SampleGroups(1_000, is_one_size=False)
    waiting.batch_size = 2
    groups = [waiting.add(at, torch.zeros(at + 1)) for at in range(64)]
    assert [len(own) for own in groups] == [0] * 63 + [1]
