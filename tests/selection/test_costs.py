import torch
from torch import nn

from frostline.selection import find_lines, step_times
from helpers_selection import ResNet, images


def test_every_line_has_times_that_fall_with_depth_above_and_rise_below():
    model, x = ResNet(), images()[0][:4]
    lines = find_lines(model.eval(), x)
    times = step_times(model, lines, x)
    assert list(times) == [line.through for line in lines]
    frozen = [times[line.through].frozen_s for line in lines]
    assert frozen[0] == 0.0
    assert frozen == sorted(frozen)  # moments of the same forward passes
    assert times[None].above_s > times["blocks"].above_s > 0
    assert times["bn"].gather_s > 0


def test_the_model_does_not_move_and_generators_neither():
    model, x = ResNet(), images()[0][:4]
    lines = find_lines(model.eval(), x)
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    step_times(model, lines, x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training


def test_what_cannot_be_measured_says_why():
    class Held(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("holds a lock")

    model = nn.Sequential(nn.Linear(4, 4), Held(4, 2))
    lines = find_lines(model, torch.randn(4, 4))
    assert "cannot be copied (TypeError)" in step_times(model, lines, torch.randn(4, 4))

    class NoBackward(nn.Linear):
        def forward(self, x):
            if self.training:
                raise RuntimeError("no training\nat all")
            return super().forward(x)

    model = nn.Sequential(nn.Linear(4, 4), NoBackward(4, 2)).eval()
    lines = find_lines(model, torch.randn(4, 4))
    assert "a training step failed (no training)" in step_times(model, lines, torch.randn(4, 4))
