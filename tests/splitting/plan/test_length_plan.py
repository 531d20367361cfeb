"""Recording at two lengths: which axes vary, what is stored, and what has no axis of the length."""

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.calls.listener import wrapped
from frostline.splitting.plan.length_plan import Blank, record_lengths


class Deep(nn.Module):
    """Three frozen layers whose sizes follow the length in other ways; the last one is used."""

    def __init__(self):
        super().__init__()
        self.low, self.middle = nn.Conv1d(1, 4, 2, 2), nn.Conv1d(4, 6, 2, 2)
        self.high = nn.Linear(6, 2)

    def forward(self, x):
        return self.high(self.middle(self.low(x).relu()).mean(2))


def test_only_what_an_output_is_computed_from_is_stored():
    model = Deep()
    fl.freeze(model, through="middle")
    with wrapped():
        plan, head = record_lengths(model.train(), torch.randn(4, 1, 8), torch.randn(4, 1, 12))
    assert [(tensor.name, tensor.shape) for tensor in plan.frontier.tensors] == [("middle", (6, -1))]
    answers = head.train_own_forward.answers
    (low,) = [answer.places[0] for frame, answer in answers.items() if frame.name == "low"]
    assert isinstance(low, Blank)
    assert low.value(plan.frontier.entries, (torch.zeros(5, 6, 4),), 5).shape == (5, 4, 8)
    assert plan.follows_lengths
    assert plan.recipe["lengths"] == "own"


def test_a_model_without_an_axis_of_the_length_is_refused():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.high = nn.Parameter(torch.ones(3), requires_grad=False), nn.Linear(1, 2)

        def forward(self, x):
            return self.high((x * self.weight[0]).mean(1, keepdim=True))

    with wrapped(), pytest.raises(fl.NotCacheable, match="length axis of what is stored cannot be found"):
        record_lengths(Loose().train(), torch.randn(4, 8), torch.randn(4, 12))


def test_dropout_of_an_unfrozen_layer_before_a_frozen_one_is_refused_by_name():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.middle, self.high = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
            self.dropout = nn.Dropout(0.1)

        def forward(self, x):
            return self.high(self.dropout(self.middle(self.dropout(self.low(x)))).mean(1))

    model = Shared()
    fl.freeze(model, through="middle")
    with wrapped(), pytest.raises(fl.NotCacheable, match="noise of a layer that is not frozen") as caught:
        record_lengths(model.train(), torch.randn(4, 8, 3), torch.randn(4, 12, 3))
    assert "get_submodule('dropout').p = 0.0" in caught.value.do
