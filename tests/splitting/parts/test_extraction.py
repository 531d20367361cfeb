import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, unanswered, x


def test_a_guard_that_differs_is_verified_and_taken_or_refused():
    taken = Net(lambda m, x: m.high(m.low(x)) if bool((x > 100).any()) else m.high(m.low(x)))
    split = check(taken, x(4))
    batch = x(4) + 200
    assert torch.allclose(split.head(*split.extract(batch)), taken(batch))
    refused = Net(lambda m, x: m.high(m.low(x)) * 2 if bool((x > 100).any()) else m.high(m.low(x)))
    split = check(refused, x(4))
    with pytest.raises(fl.SplitError, match="another path for this batch") as error:
        split.extract(x(4) + 200)
    assert error.value.received.startswith("float32 (4, 8): relative difference")
    assert isinstance(error.value.__cause__, fl.SplitError)


def test_features_that_have_not_a_row_for_every_sample_are_refused():
    """The model itself gives one row for the batch: its head would, too."""

    def forward(m, batch):
        low = unanswered(m, batch)
        return m.high(low[:1] if bool((batch > 100).any()) else low)

    split = check(Net(forward), x(4))
    with pytest.raises(fl.SplitError, match="another path for this batch"):
        split.extract(x(4) + 200)


def test_a_hook_that_forward_takes_away_again_is_taken_away_where_extraction_ends_before():
    def forward(m, batch):
        seen = []
        handle = m.low.register_forward_hook(lambda module, given, made: seen.append(made))
        low = m.low(batch)
        made = m.high(low + seen[-1])
        handle.remove()
        return made

    model = Net(forward)
    split, batch = fl.split(model, x(4)), x(3)
    features = split.extract(batch)
    assert not model.low._forward_hooks
    assert torch.equal(split.head(*features), model(batch))


def test_rows_of_a_frozen_value_that_forward_goes_through_are_features_of_a_graph():
    model = Net(lambda m, batch: m.high(torch.stack(list(m.low(batch).t())).t()))
    split = check(model, x(4))
    assert split.explain().notes == ()  # the head does not run the model's own forward
    batch = x(7)
    assert torch.equal(split.head(*split.extract(batch)), model(batch))


def test_what_only_training_makes_is_made_without_the_noise_that_feeds_it():
    def forward(m, batch):
        dropped = F.dropout(m.low(batch), 0.5, m.training)
        return m.high(m.mid(dropped)) + (m.high(m.aside(dropped)) if m.training else 0)

    model = Net(forward, mid=nn.Linear(D, D), aside=nn.Linear(D, D))
    fl.freeze(model, modules=[model.mid, model.aside])
    split = check(model, x(4), names=["mid", "aside"])
    batch = x(5)
    state = torch.get_rng_state()
    found = split.extract(batch)
    assert torch.equal(torch.get_rng_state(), state)
    low = model.low(batch)
    for feature, expected in zip(found, (model.mid(low), model.aside(low)), strict=True):
        torch.testing.assert_close(feature, expected)


@pytest.mark.parametrize("mode", [True, False])
def test_extraction_leaves_modes_and_attributes_as_they_are(mode):
    def forward(m, batch):
        m.last = m.low(batch)
        return m.high(m.last)

    model = Net(forward).train(mode)
    model.low.train(not mode)
    model.last = None
    split = check(model, x(4))
    split.extract(x(3))
    assert [module.training for module in (model, model.low, model.high)] == [mode, not mode, mode]
    assert model.last is None
