import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, unanswered, x


class Root(nn.Module):
    """A call that fails while its weight is negative."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(-0.1))

    def forward(self, batch):
        return batch @ torch.linalg.cholesky(torch.eye(8) * self.factor)


def _rooted(frozen, *, is_whole):
    def forward(m, batch):
        high = m.high(frozen(m, batch))
        try:
            return m.root(high) if is_whole else Root.forward(m.root, high)
        except RuntimeError:
            return high * m.root.factor

    return Net(forward, root=Root())


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_trainable_call_whose_failure_the_model_catches_is_not_taken_for_granted(is_whole):
    with pytest.raises(fl.SplitError, match="catches an error of its trainable part"):
        fl.split(_rooted(unanswered, is_whole=is_whole), x(4))
    model = _rooted(lambda m, batch: m.low(batch), is_whole=is_whole)
    split, batch = fl.split(model, x(4)), x(3)
    for factor in (-0.1, 2.0):
        with torch.no_grad():
            model.root.factor.fill_(factor)
        torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))


def test_a_refusal_that_the_model_catches_is_raised_all_the_same():
    def forward(m, batch):
        high = m.high(unanswered(m, batch))
        try:
            return high * (2.0 if high.max() > 100 else 1.0)
        except Exception:
            return high

    with pytest.raises(fl.SplitError, match="handed to Python"):
        fl.split(Net(forward), x(4))


def test_a_forward_that_freezes_a_weight_is_refused():
    def forward(m, batch):
        m.high.requires_grad_(m.training)
        return m.high(m.low(batch))

    model = Net(forward)
    with pytest.raises(fl.SplitError, match="freezes the weight 'high.weight'"):
        fl.split(model, x(4))
    assert model.high.weight.requires_grad


def test_a_forward_that_says_again_what_trains_is_no_matter():
    def forward(m, batch):
        m.high.requires_grad_(True)
        return m.high(m.low(batch))

    check(Net(forward), x(4))


def _doubled(module, gradients, *outer):
    return tuple(None if own is None else own * 2 for own in gradients)


def test_a_hook_that_changes_gradients_is_kept_or_refused():
    seen = []

    def looking(module, *gradients):
        seen.append(gradients)

    class Block(Net):
        def __init__(self):
            super().__init__(lambda m, batch: m.high(m.low(batch).relu()))

    for hook in (_doubled, looking):
        model = nn.Sequential(nn.Linear(D, D).requires_grad_(False), nn.Linear(D, D), Block())
        model[2].register_full_backward_hook(hook)
        check(model, x(4), is_graph=hook is not _doubled)
    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.register_full_backward_pre_hook(_doubled)
    with pytest.raises(fl.SplitError, match="A hook may change gradients on their way back through the model"):
        fl.split(model, x(4))


def _hooked(made):
    if made.grad_fn is not None:
        made.grad_fn.register_hook(lambda inner, outer: tuple(None if own is None else own * 2 for own in inner))
    return made


def test_a_hook_in_the_graph_of_autograd_is_kept_or_refused():
    check(Net(lambda m, batch: _hooked(m.high(m.low(batch)))), x(4), is_graph=False)
    with pytest.raises(fl.SplitError, match="reaches into the autograd graph"):
        fl.split(Net(lambda m, batch: _hooked(m.high(unanswered(m, batch)))), x(4))


@pytest.mark.parametrize("is_in_module", [True, False])
def test_a_transform_around_frozen_layers_is_refused_with_its_line(is_in_module):
    class Mapped(nn.Linear):
        def forward(self, rows):
            return torch.vmap(lambda row: nn.Linear.forward(self, row))(rows)

    low = Mapped(D, D) if is_in_module else nn.Linear(D, D)
    model = Net(lambda m, x: m.high(m.low(x) if is_in_module else torch.vmap(m.low)(x)), low=low)
    with pytest.raises(fl.SplitError, match=r"A transform of torch\.func runs") as error:
        fl.split(model, x(4))
    assert "torch.vmap(" in error.value.where


def test_a_module_that_trains_may_transform_its_calls():
    class Mapped(nn.Linear):
        def forward(self, rows):
            return torch.vmap(lambda row: nn.Linear.forward(self, row))(rows)

    check(Net(lambda m, x: m.high(m.low(x)), high=Mapped(D, D)), x(4))
