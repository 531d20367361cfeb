import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import frostline as fl
from frostline.remedies.batchnorm.layers import LastAxisBatchNorm
from frostline.remedies.batchnorm.population import Population, Replay, channel_axis, inputs_of


def test_batches_of_other_widths_are_refused_and_empty_ones_passed_over():
    population = Population()
    population.add(torch.ones(4, 3), -1)
    population.add(torch.ones(0, 3), -1)
    assert (population.count, population.num_batches) == (4, 1)
    with pytest.raises(fl.DataError, match="different numbers of features"):
        population.add(torch.ones(4, 5), -1)


def test_a_batch_without_an_axis_of_features_is_refused():
    with pytest.raises(fl.DataError, match="A batch has no axis of features"):
        Population().add(torch.ones(4), 1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(-1e6, 1e6))
def test_any_division_gives_the_moments_of_the_whole(sizes, offset):
    generator = torch.Generator().manual_seed(len(sizes))
    x = torch.randn(sum(sizes) + 1, 3, 2, generator=generator, dtype=torch.float64) + offset
    population = Population()
    for part in x.split([*sizes, 1]):
        population.add(part, 1)
    whole = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(population.mean, whole.mean(1))
    torch.testing.assert_close(population.variance, whole.var(1), rtol=1e-6, atol=1e-6)


def test_large_means_do_not_eat_small_variances():
    population = Population()
    x = torch.randn(4096, 1, dtype=torch.float64) * 1e-3 + 1e4
    for part in x.split(64):
        population.add(part.float(), 1)
    torch.testing.assert_close(population.variance, x.float().double().var(0))


def test_too_little_is_refused_and_empty_batches_do_not_count():
    population = Population()
    population.add(torch.zeros(0, 3), 1)
    with pytest.raises(fl.DataError, match="at least two values per channel"):
        population.check("norm")


def test_a_replay_can_be_read_again_and_knows_inputs():
    model = nn.Linear(2, 2)
    replay = Replay(model, iter([(torch.ones(1, 2), 0), {"x": torch.zeros(1, 2), "labels": 1}, torch.ones(3, 2)]))
    for _ in range(2):
        first, second, third = replay
        assert first.shape == (1, 2)
        assert list(second) == ["x"]
        assert third.shape == (3, 2)
    assert inputs_of((1, 2, 3)) == (1, 2, 3)
    with pytest.raises(fl.DataError, match="There are no batches"):
        Replay(model, []).first()
    with pytest.raises(fl.DataError, match="The batches cannot be gone through"):
        Replay(model, 3)


def test_where_the_channels_lie():
    assert channel_axis(nn.BatchNorm2d(2)) == 1
    assert channel_axis(LastAxisBatchNorm(2)) == -1


def test_values_inside_of_a_transform_are_refused():
    with pytest.raises(fl.DataError, match=r"inside of a transform of torch\.func"):
        torch.vmap(lambda row: Population().add(row, 0) or row)(torch.ones(4, 3))
