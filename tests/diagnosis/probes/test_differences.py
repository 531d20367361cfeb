import pytest
import torch

from frostline.diagnosis.probes.differences import slope_along

LEAF = torch.linspace(-1, 2, 6, dtype=torch.float64).requires_grad_()


def test_of_a_smooth_function_both_agree():
    own, measured = slope_along(lambda value: value.pow(3).sum(), LEAF, 1e-5, seed=0)
    assert own == pytest.approx(measured, rel=1e-6)


def test_what_is_detached_counts_in_the_differences_alone():
    own, measured = slope_along(lambda value: (value * value.detach()).sum(), LEAF, 1e-5, seed=0)
    assert measured == pytest.approx(2 * own, rel=1e-6)


def test_a_value_that_is_not_used_has_no_slope():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    assert slope_along(lambda _: 3 * weight, LEAF, 1e-5, seed=0) == (0.0, 0.0)


def test_seeds_draw_directions_and_nothing_is_left_on_the_leaf():
    pairs = [slope_along(lambda value: value.sum(), LEAF, 1e-5, seed) for seed in (0, 1, 0)]
    assert pairs[0] == pairs[2] != pairs[1]
    assert LEAF.grad is None
