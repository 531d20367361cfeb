import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.splitting.plan.frozen_calls import frozen_calls
from helpers_splitting import D, Net, x


def calls_of(model, example):
    split = fl.split(model, example)
    before = {name: own.clone() for name, own in model.state_dict().items()}
    modes, state = [own.training for own in model.modules()], torch.get_rng_state()
    found = frozen_calls(split._plan)
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    assert [own.training for own in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    return found


def test_every_frozen_call_has_its_seconds_and_bytes_per_sample():
    found = calls_of(Net(lambda m, x: m.high(m.low(x).relu())), x())
    assert [call.name for call in found.calls] == ["low.linear", "relu"]
    assert all(call.seconds > 0 for call in found.calls)
    assert [call.bytes for call in found.calls] == [4 * D, 4 * D]
    assert [found.values[at].name for at in found.needed] == ["relu"]
    assert found.seconds == sum(call.seconds for call in found.calls)


def test_what_was_written_in_place_since_cannot_be_computed_from():
    def forward(m, x):
        h = m.low(x)
        q = h * 2  # reads h as it was
        h.relu_()
        return m.high(q) + m.high(h)

    found = calls_of(Net(forward), x())
    by_name = {call.name: call.again for call in found.calls}
    assert by_name["mul"] is False
    assert by_name["low.linear"] is False  # its memory was written since


def test_large_inputs_are_not_stored_and_small_ones_are():
    model = nn.Sequential(nn.Linear(5000, D), nn.Linear(D, 2))
    fl.freeze(model, through="0")
    assert calls_of(model, torch.randn(4, 5000)).values[0].bytes is None
    assert calls_of(Net(lambda m, x: m.high(m.low(x))), x()).values[0].bytes == 4 * D


def test_a_value_that_follows_the_whole_batch_is_not_stored_per_sample():
    found = calls_of(Net(lambda m, x: m.high(m.low(x)) + x.mean(0)), x())
    mean = next(value for value in found.values if value.name == "mean")
    assert mean.bytes is None


def test_calls_of_several_results_are_one_call():
    found = calls_of(Net(lambda m, x: m.high(torch.cat(F.relu(m.low(x)).chunk(2, 1)[::-1], 1))), x())
    chunk = [at for at, call in enumerate(found.calls) if call.name == "chunk"]
    assert len([value for value in found.values if value.call == chunk[0]]) == 2
    assert found.calls[chunk[0]].bytes == 4 * D
