import torch

from frostline.recipes.loop_cost import loop_step_s


def test_a_step_of_the_loop_is_measured_once_and_draws_nothing():
    state = torch.get_rng_state()
    first = loop_step_s()
    assert 0.0 <= first < 1.0
    assert loop_step_s() == first
    assert torch.equal(torch.get_rng_state(), state)
