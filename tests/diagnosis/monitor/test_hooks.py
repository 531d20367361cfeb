import contextlib

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from frostline.diagnosis.monitor.hooks import Watch
from frostline.diagnosis.monitor.overhead import Account


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
    watch = Watch(model, Account())
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
    assert seen.values == {}
    assert seen.input_sums is None


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
    assert list(watch.take().values) == ["body", "head"]


def test_an_error_in_a_pass_does_not_blind_the_next():
    model = nn.Sequential(nn.Linear(4, 4))
    watch = watched(model)
    with torch.no_grad(), contextlib.suppress(RuntimeError):
        model(torch.randn(5, 3))
    model[0](torch.randn(5, 4))  # a part on its own: the mode of gradients decides
    assert list(watch.take().values) == ["0"]


def test_checkpointed_layers_count_once_and_in_order():
    for use_reentrant in (True, False):
        model = Checkpointed(use_reentrant)
        watch = watched(model)
        model(torch.randn(5, 4)).sum().backward()
        names = ["stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1", "stages.2.0", "stages.2.1", "head"]
        assert list(watch.order) == names
        assert list(watch.take().values) == names


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
    assert float(watch.take().values["layer"].std()) < 10


def test_copies_are_of_the_time_of_the_call():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True))
    watch = watched(model)
    model(torch.randn(50, 4))
    seen = watch.take().values
    assert seen["0"].min() < 0
    assert torch.equal(seen["0"].relu(), seen["1"])


def test_rows_of_the_input_that_are_not_finite():
    model = nn.Sequential(nn.Linear(4, 6))
    for dtype, large in ((torch.float32, 1e30), (torch.float16, 6e4)):
        watch = watched(model.to(dtype))
        inputs = torch.full((5, 4), large, dtype=dtype)
        inputs[2, 0], inputs[4, 1] = float("nan"), float("-inf")
        model(inputs)
        assert watch.take().input_sums.isfinite().tolist() == [True, True, False, True, False]


def test_the_input_alone():
    model = nn.Sequential(nn.Linear(4, 6))
    watch = Watch(model, Account())
    watch.attach(only_input=True)
    model(torch.randn(5, 4))
    seen = watch.take()
    assert seen.values == {}
    assert seen.input_sums.shape == (5,)
    watch.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 2)

    def forward(self, x):
        x = self.body(x).relu()
        return {"first": self.first(x).squeeze(1), "second": [self.second(x)]}


def test_all_layers_whose_output_leaves_the_model_are_heads():
    model = Heads()
    watch = watched(model)
    model(torch.randn(5, 4))
    assert watch.heads == {"first", "second"}
    assert not watch._places
    watch = watched(model := nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2), nn.Softmax(1)))
    model(torch.randn(5, 4))
    assert watch.heads == frozenset()


def test_layers_inside_of_a_transform_are_left_out():
    class Mapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.outer(torch.vmap(self.inner)(x))

    model = Mapped()
    watch = watched(model)
    model(torch.randn(6, 4)).sum().backward()
    assert set(watch.take().values) == {"outer"}


def test_a_model_that_a_transform_calls_is_not_looked_at():
    model = nn.Linear(4, 2)
    watch = watched(model)

    def loss(parameters, row):
        return torch.func.functional_call(model, parameters, (row,)).sum()

    parameters = {name: own.detach() for name, own in model.named_parameters()}
    gradients = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, torch.randn(6, 4))
    seen = watch.take()
    assert (gradients["weight"].shape, seen.values, seen.input_sums) == ((6, 2, 4), {}, None)
