"""Which frozen calls a head answers, what is stored for it, and what is refused all the same."""

import math
import random

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.plan.replay_plan import first_proven
from helpers_splitting import D, Net, unanswered, x


def test_what_the_frozen_side_computes_before_a_frozen_layer_must_not_follow_a_state():
    def forward(m, x):
        m.calls = m.calls + 1
        return m.high(m.low(x * (2 if m.calls > 99 else 1))) * math.sqrt(len(x))

    model = Net(forward)
    model.calls = 0
    with pytest.raises(fl.FrostlineError):
        fl.split(model, x(4))
    assert model.calls == 0


def test_one_sample_must_not_decide_for_others_before_a_frozen_layer():
    with pytest.raises(fl.FrostlineError):
        fl.split(Net(lambda m, x: m.high(m.low(x * (0.5 if x.max() > 99 else 1))) * math.sqrt(len(x))), x(4))


@pytest.mark.parametrize("forward", [
    lambda m, x: m.high(m.noisy(m.low(x))) * math.sqrt(len(x)),
    lambda m, x: m.high(m.low(m.drop(x))) * math.sqrt(len(x)),
    lambda m, x: m.high(m.norm(m.low(x))) * math.sqrt(len(x)),
    lambda m, x: m.high(m.low(x) + m.table(torch.zeros(len(x), dtype=torch.long))) * math.sqrt(len(x)),
])  # fmt: skip
def test_frozen_layers_that_are_noisy_or_change_are_refused_as_ever(forward):
    noisy, norm = nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5)), nn.BatchNorm1d(D)
    table = nn.Embedding(2, D, max_norm=0.1)
    for part in (noisy, norm, table):
        part.requires_grad_(False)
    model = Net(forward, noisy=noisy, norm=norm, table=table, drop=nn.Dropout(0.5))
    weight = table.weight.clone()
    with pytest.raises(fl.NotCacheable):
        fl.split(model, x(4))
    assert torch.equal(table.weight, weight)


def test_inputs_and_frozen_outputs_of_which_no_use_is_seen_are_not_stored_and_fail_where_they_are_used():
    def forward(m, x):
        made = m.high(m.second(m.low(x))) * math.sqrt(len(x))
        return made + x.mean() if len(x) > 20 else made

    split = fl.split(Net(forward, second=nn.Linear(D, D).requires_grad_(False)), x(4))
    assert [tensor.name for tensor in split.frontier] == ["second"]
    split.prove_size(20)
    with pytest.raises(fl.SplitError, match="another way for a batch of 21"):
        split.prove_size(21)


def test_a_frozen_layer_that_is_called_for_every_row_is_not_taken_for_a_shared_one():
    with pytest.raises(fl.SplitError, match="generalised"):
        fl.split(Net(lambda m, x: torch.stack([m.high(m.low(row)) for row in x])), x(4))


def test_there_is_no_such_head_without_a_call_of_a_frozen_module():
    model = Net(lambda m, x: m.high(unanswered(m, x)))
    assert first_proven(lambda *made: made, model, x(4), "because") is None


def test_why_no_graph_holds_is_told_with_the_plan():
    model = Net(lambda m, x: m.high(m.low(x)))
    for why in ("because", KeyError("because")):
        made = first_proven(lambda *made: made, model, x(4), why)
        assert made is not None
        assert "because" in made[0].settings.notes()[0]


def test_a_plan_that_is_not_proven_is_made_again_with_all_inputs():
    model, seen = Net(lambda m, x: m.high(m.low(x))), []

    def prove(plan, head):
        seen.append([tensor.name for tensor in plan.frontier.tensors])
        raise ValueError

    assert first_proven(prove, model, x(4), "because") is None
    assert seen == [["low"], ["input.0", "low"]]


def test_a_forward_that_writes_into_a_frozen_weight_is_refused_though_its_layer_could_be_answered():
    def forward(m, batch):
        with torch.no_grad():
            m.low.weight.mul_(0.99)
        return torch.stack([m.high(row) for row in m.low(batch)])

    with pytest.raises(fl.NotCacheable, match="'low.weight' is written"):
        fl.split(Net(forward), x(4))


def test_an_error_of_the_model_itself_is_not_tried_again():
    calls = []

    def forward(m, batch):
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("bang")
        return m.high(m.low(batch))

    with pytest.raises(fl.SplitError, match="KeyError"):
        fl.split(Net(forward), x(4))


def test_a_frozen_layer_that_gets_chance_of_python_in_training_is_not_answered_with_what_it_gave_without():
    def forward(m, batch):
        low = m.low(batch)
        shaken = low * random.choice([0.9, 1.1]) if m.training else low
        return m.high(low + m.second(shaken).round().unique(return_inverse=True)[1].float())

    model = Net(forward, second=nn.Linear(D, D).requires_grad_(False))
    split = fl.split(model, x(4))
    assert [tensor.name for tensor in split.frontier] == ["low"]
    batch = 20 * x(4)
    for is_training in (True, False):
        for part in (model, split.head):
            part.train(is_training)
        random.seed(3)
        expected = model(batch)
        random.seed(3)
        assert torch.equal(split.head(*split.extract(batch)), expected)
