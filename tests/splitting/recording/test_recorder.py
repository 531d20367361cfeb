import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, x


def test_train_and_eval_take_their_own_recording():
    model = Net(lambda m, x: m.high(m.drop(m.low(x))), drop=nn.Dropout(0.5))
    split = check(model, x(4))
    features = split.extract(x())
    split.head.eval()
    assert torch.equal(split.head(*features), split.head(*features))
    split.head.train()
    assert not torch.equal(split.head(*features), split.head(*features))


def test_batch_statistics_in_the_frozen_part_are_named():
    model = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Linear(D, 2))
    for parameter in [*model[0].parameters(), *model[1].parameters()]:
        parameter.requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="Cannot cache the output of '1'") as error:
        fl.split(model, x(4))
    assert "training mode" in error.value.where
    fl.freeze(model, through="1")
    check(model, x(4))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        self.calls += 1
        return x * self.weight


def test_a_frozen_part_that_counts_is_refused():
    model = nn.Sequential(Counting(), nn.Linear(D, 2))
    fl.freeze(model, through="0")
    with pytest.raises(fl.NotCacheable, match="'0.calls' is written during the forward pass"):
        fl.split(model, x(4))


class Steep(torch.autograd.Function):
    """A call with a backward of its own, that looks at its values."""

    @staticmethod
    def forward(ctx, x):
        ctx.factor = 3.0 if float(x.abs().max()) > 1 else 1.0
        return x * ctx.factor

    @staticmethod
    def backward(ctx, gradient):
        return gradient * -ctx.factor


def test_a_function_with_a_backward_of_its_own_may_look_at_values_that_train():
    model = Net(lambda m, x: Steep.apply(m.high(m.low(x))))
    split = check(model, x(4))
    for scale in (0.01, 100.0):
        batch = x(5) * scale
        gradients = []
        for run in (lambda own=batch: model(own), lambda own=batch: split.head(*split.extract(own))):
            model.zero_grad()
            out = run()
            out.sum().backward()
            gradients.append((out.detach(), model.high.weight.grad.clone()))
        assert torch.equal(gradients[0][0], gradients[1][0])
        torch.testing.assert_close(gradients[0][1], gradients[1][1])


def test_a_module_that_is_called_whole_may_have_such_a_function_inside():
    class Inside(nn.Linear):
        def forward(self, x):
            return Steep.apply(super().forward(x))

    model = Net(lambda m, x: m.inside(m.low(x)), inside=Inside(D, D))
    split = check(model, x(4))
    batch = x(5) * 100
    assert torch.equal(split.head(*split.extract(batch)), model(batch))


def test_a_look_up_that_trains_may_scale_its_weight_and_a_frozen_one_may_not():
    def forward(m, batch):
        return m.high(m.low(batch)) + m.table(batch[:, 0].long().clamp(0, 4))

    model = Net(forward, table=nn.Embedding(5, D, max_norm=0.5))
    split = fl.split(model, x(4))
    batch = x(6)
    assert torch.equal(split.head(*split.extract(batch)), model(batch))
    model = Net(forward, table=nn.Embedding(5, D, max_norm=0.5))
    model.table.requires_grad_(False)
    with pytest.raises(fl.FrostlineError):
        fl.split(model, x(4))


def test_what_only_passes_through_a_module_keeps_its_name():
    check(Net(lambda m, x: m.high(m.skip(m.low(x))), skip=nn.Sequential(nn.Identity())), x(4), names=["low"])
    check(Net(lambda m, x: m.high(m.skip(m.low(x))), skip=nn.Sequential(nn.Tanh())), x(4), names=["skip"])


def test_a_frozen_part_that_replaces_its_buffer_is_refused():
    class Averaging(Counting):
        def forward(self, x):
            self.calls = self.calls * 0.9 + x.mean()
            return x * self.weight

    model = nn.Sequential(Averaging(), nn.Linear(D, 2))
    fl.freeze(model, through="0")
    with pytest.raises(fl.NotCacheable, match="the buffer '0.calls' is replaced in forward"):
        fl.split(model, x(4))


def _limited(m, x):
    low = m.low(x)
    return m.high((low + low[-1]).masked_fill_(low > 20, 1.0))


def _limited_zeros(m, x):
    made = torch.zeros(len(x), D)
    made.add_(m.low(x).clamp(min=20))
    made[:, 0] = m.high(m.low(x))[:, 0]
    return made


@pytest.mark.parametrize("forward", [_limited, _limited_zeros])
def test_what_is_made_again_in_the_head_is_what_it_was_after_it_was_written(forward):
    model = Net(forward)
    split = check(model, x(4), is_graph=forward is _limited_zeros)
    for batch in (x(3) * 99, x(6)):
        torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))


def _set(low):
    low[:, 0] = 1.0


WRITES = {
    "an entry": _set,
    "all": lambda low: low.copy_(low * 2),
    "through a view": lambda low: low[:, :2].zero_(),
    "an out argument": lambda low: torch.mul(low, 2, out=low),
    "where a mask says": lambda low: low.masked_fill_(low > 0, 3.0),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_into_a_frozen_value_before_it_crosses_is_stored(name):
    def forward(m, batch):
        low = m.low(batch)
        WRITES[name](low)
        return m.high(low)

    model = Net(forward)
    split = check(model, x(4))
    batch = x(5)
    (feature,) = split.extract(batch)
    low = model.low(batch)
    WRITES[name](low)
    assert torch.equal(feature, low)
    assert torch.equal(split.head(feature), model(batch))
