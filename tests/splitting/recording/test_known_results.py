import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

import frostline as fl
from frostline.splitting.plan import recordings
from frostline.splitting.recording import known_results
from frostline.splitting.recording.known_results import KnownResults
from helpers_splitting import D, Net


class Counted:
    """A function that stands for one of torch's, and counts its calls."""

    num_calls = 0

    def __call__(self, x, weight, **options):
        self.num_calls += 1
        return (x @ weight).mul_(options.get("scale", 1.0))


@pytest.fixture
def function(monkeypatch):
    own = Counted()
    monkeypatch.setattr(known_results, "_COSTLY", {own})
    return own


def made(rows=2):
    return torch.arange(rows * D, dtype=torch.float32).reshape(rows, D), nn.Parameter(torch.eye(D), requires_grad=False)


def test_the_same_call_of_equal_values_is_made_once_and_gives_memory_of_its_own(function):
    known, (x, weight) = KnownResults(), made()
    first = known.call("here", function, (x, weight), {})
    second = known.call("here", function, (x.clone(), weight), {})
    assert function.num_calls == 1
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()


def test_in_the_last_recording_a_result_is_recalled_once_and_none_is_held(function):
    known, (x, weight) = KnownResults(), made()
    known.call("here", function, (x, weight), {})
    known.is_asked_last = True
    for expected in (1, 2, 3):
        known.call("here", function, (x, weight), {})
        assert function.num_calls == expected


def other_values(x, weight):
    return "here", (x + 1, weight), {}


def written_argument(x, weight):
    x.add_(1)
    return "here", (x, weight), {}


def written_weight(x, weight):
    weight.mul_(2)
    return "here", (x, weight), {}


def other_weight(x, weight):
    return "here", (x, nn.Parameter(weight.clone(), requires_grad=False)), {}


def other_setting(x, weight):
    return "here", (x, weight), {"scale": 2.0}


def other_place(x, weight):
    return "there", (x, weight), {}


def other_layout(x, weight):
    return "here", (x.t().contiguous().t(), weight), {}


def trained(x, weight):
    return "here", (x, nn.Parameter(weight.clone())), {}


@pytest.mark.parametrize("change", [other_values, written_argument, written_weight, other_weight, other_setting,
                                    other_place, other_layout, trained])  # fmt: skip
def test_whatever_differs_is_computed(change, function):
    known, (x, weight) = KnownResults(), made()
    known.call("here", function, (x, weight), {})
    place, args, options = change(x, weight)
    found = known.call(place, function, args, options)
    assert function.num_calls == 2
    assert torch.equal(found, args[0] @ args[1] * options.get("scale", 1.0))


def test_a_result_that_was_written_into_and_another_precision_are_computed(function):
    known, (x, weight) = KnownResults(), made()
    known.call("here", function, (x, weight), {}).add_(1)
    assert torch.equal(known.call("here", function, (x, weight), {}), x)
    with torch.autocast("cpu"):
        known.call("here", function, (x, weight), {})
    assert function.num_calls == 3


def test_other_functions_are_called_every_time():
    known, function, (x, weight) = KnownResults(), Counted(), made()
    for _ in range(2):
        known.call("here", function, (x, weight), {})
    assert function.num_calls == 2


@pytest.mark.parametrize("call", [lambda x, m: F.linear(x, m), lambda x, m: x @ m, lambda x, m: torch.matmul(x, m),
                                  lambda x, m: x.matmul(m), lambda x, m: torch.bmm(x[None], m[None])[0]])  # fmt: skip
def test_functions_are_known_as_a_mode_gets_them(call):
    x, weight = made()
    heard = []

    class Hearing(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            heard.append(func)
            return func(*args, **(kwargs or {}))

    with Hearing():
        call(x, weight)
    assert known_results._COSTLY.intersection(heard)


def test_a_split_computes_its_frozen_layers_once_for_both_modes(monkeypatch):
    """The recordings with and without memory are the same, in keys and heads."""
    found, (batch, _) = [], made(4)

    class Forgetful(KnownResults):
        def call(self, place, func, args, kwargs):
            return func(*args, **kwargs)

    for kind in (KnownResults, Forgetful):
        monkeypatch.setattr(recordings, "KnownResults", kind)
        torch.manual_seed(0)
        model = Net(lambda m, batch: m.high(m.low(batch).relu_()))
        split = fl.split(model, batch)
        found.append((split.recipe, split.head.code, split.head(*split.extract(batch))))
    assert found[0][:2] == found[1][:2]
    assert torch.equal(found[0][2], found[1][2])
