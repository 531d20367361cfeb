import pytest
import torch

import frostline as fl
from helpers_splitting import Net, check, x


def test_a_guard_that_differs_is_verified_and_taken_or_refused():
    taken = Net(lambda m, x: m.high(m.low(x)) if bool((x > 100).any()) else m.high(m.low(x)))
    split = check(taken, x(4))
    batch = x(4) + 200
    assert torch.allclose(split.head(*split.extract(batch)), taken(batch))
    refused = Net(lambda m, x: m.high(m.low(x)) * 2 if bool((x > 100).any()) else m.high(m.low(x)))
    split = check(refused, x(4))
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
