import contextlib

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from frostline.health.watching import Watch


class Checkpointed(nn.Module):
    """Three stages, each run again in the backward pass."""

    def __init__(self, use_reentrant):
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3))
        self.head = nn.Linear(4, 2)
        self.use_reentrant = use_reentrant

    def forward(self, x):
        x = x.requires_grad_()
        for stage in self.stages:
            x = checkpoint(stage, x, use_reentrant=self.use_reentrant)
        return self.head(x)


def watched(model):
    watch = Watch(model, lambda work: work())
    watch.attach()
    return watch


def test_layers_are_seen_in_the_order_in_which_they_run():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(3, 2), nn.Linear(4, 3)

        def forward(self, x):
            return self.last(self.first(x))

    model = Backwards()
    watch = watched(model)
    model(torch.randn(5, 4))
    assert watch.order == {"first": 0, "last": 1}
    watch.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_nothing_is_seen_when_off_or_in_validation():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    watch = watched(model)
    with torch.no_grad():
        model(torch.randn(5, 4))
    watch.remove()
    model(torch.randn(5, 4))
    seen = watch.take()
    assert seen.moments == seen.dead == {}
    assert seen.input_rows is None


def test_parts_that_switch_gradients_off_are_seen():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            with torch.no_grad():
                x = self.body(x)
            return self.head(x)

    model = Frozen()
    watch = watched(model)
    model(torch.randn(5, 4))
    assert list(watch.take().moments) == ["body", "head"]


def test_an_error_in_a_pass_does_not_blind_the_next():
    model = nn.Sequential(nn.Linear(4, 4))
    watch = watched(model)
    with torch.no_grad(), contextlib.suppress(RuntimeError):
        model(torch.randn(5, 3))
    model[0](torch.randn(5, 4))  # a part on its own: the mode of gradients decides
    assert list(watch.take().moments) == ["0"]


def test_checkpointed_layers_count_once_and_in_order():
    for use_reentrant in (True, False):
        model = Checkpointed(use_reentrant)
        watch = watched(model)
        model(torch.randn(5, 4)).sum().backward()
        names = ["stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1", "stages.2.0", "stages.2.1", "head"]
        assert list(watch.order) == names
        assert list(watch.take().moments) == names
        assert all(len(past) == 1 for past in watch._silent.values())


def test_a_shared_module_is_seen_once_at_its_first_call():
    layer = nn.Linear(4, 4)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(1000 * self.layer(x))

    watch = watched(model := Twice())
    model(torch.randn(5, 4))
    assert float(watch.take().moments["layer"][1]) < 10


def test_odd_rows_of_the_input_and_dead_units():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.Tanh())
    with torch.no_grad():
        model[0].bias[:3] = -100.0
        model[2].weight.mul_(1000)
    watch = watched(model)
    inputs = torch.randn(5, 4)
    model(inputs)
    first = watch.take()
    assert first.input_rows.all()
    assert float(first.dead["1"]) >= 0.5
    assert float(first.saturated["3"]) > 0.5
    inputs[2, 0] = float("nan")
    model(inputs)
    assert watch.take().input_rows.tolist() == [True, True, False, True, True]
