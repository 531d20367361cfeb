import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, has_graph, unanswered, x

SIZES = {
    "the batch": lambda m, x: m.high(m.low(x)).reshape(x.shape[0], 2, -1),
    "twice the batch": lambda m, x: m.high(m.low(x)).view(2 * x.shape[0], -1),
    "all but one": lambda m, x: m.high(m.low(x))[: x.shape[0] - 1],
    "half of it": lambda m, x: m.high(m.low(x))[: x.shape[0] // 2],
    "in a list": lambda m, x: torch.cat(m.high(m.low(x)).split([1, x.shape[0] - 1])),
    "as a keyword": lambda m, x: m.high(m.low(x)).repeat_interleave(2, dim=0, output_size=2 * x.shape[0]),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("count", [2, 6, 11])
def test_sizes_follow_the_batch(name, count):
    model = Net(SIZES[name]).eval()
    split = fl.split(model, x(4))
    assert has_graph(split)
    batch = x(count)
    assert torch.equal(split.head(*split.extract(batch)), model(batch))


def test_the_batch_is_read_off_a_stored_tensor():
    split = fl.split(Net(SIZES["twice the batch"]), x(4))
    assert ".size(0)" in split.head.code


def test_other_calls_for_another_batch_are_refused():
    model = Net(lambda m, x: m.high(unanswered(m, x)).tanh() if len(x) > 2 else m.high(unanswered(m, x)))
    with pytest.raises(fl.SplitError, match="cannot be generalised over the batch size") as error:
        fl.split(model, x(4))
    assert error.value.received == "the model makes other calls for another batch size"


def out(m, x):
    return m.high(unanswered(m, x))


def hooked(value, hook):
    if value.requires_grad:
        value.register_hook(hook)
    return value


def _other_wiring(m, x):
    first, second = out(m, x), out(m, x) * 2
    return (second if len(x) == 2 else first) + 0 * second


OTHERS = {
    "a flag": (lambda m, x: out(m, x).sum(1, keepdim=len(x) == 2), "True for 2 samples, False for 4"),
    "a tuple of another length": (lambda m, x: out(m, x).sum((0, 1) if len(x) == 2 else (1,)),
                                  "(0, 1) for one batch size, (1,) for another"),
    "another wiring": (_other_wiring, "the calls are connected in another way"),
    "another weight": (lambda m, x: F.linear(unanswered(m, x), (m.high if len(x) == 2 else m.code).weight),
                       "high.weight for one batch size, code.weight for another"),
    "a keyword": (lambda m, x: out(m, x).sum(1) if len(x) == 2 else out(m, x).sum(dim=1),
                  "(high, 1) for one batch size, (high,) for another"),
    "more keywords": (lambda m, x: out(m, x).sum(dim=1, **({} if len(x) == 2 else {"keepdim": False})),
                      "['dim'] for one batch size, ['dim', 'keepdim'] for another"),
    "a text": (lambda m, x: F.interpolate(out(m, x)[:, None], size=4, mode="linear" if len(x) == 2 else "nearest"),
               "'linear' for 2 samples, 'nearest' for 4"),
    "a dtype": (lambda m, x: out(m, x).to(torch.float64 if len(x) == 2 else torch.float32),
                "torch.float64 for 2 samples, torch.float32 for 4"),
    "a number that is handed out": (lambda m, x: {"a": out(m, x), "n": len(x)},
                                    "the output holds a Python number that differs for another batch"),
    "one call more": (lambda m, x: out(m, x) if len(x) == 2 else out(m, x).tanh(),
                      "the model makes other calls for another batch size"),
    "another call": (lambda m, x: out(m, x).sin() if len(x) == 2 else out(m, x).tanh(),
                     "the model makes other calls for another batch size"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_differs_for_another_batch_and_is_no_size_is_refused_by_its_name(name):
    forward, received = OTHERS[name]
    with pytest.raises(fl.SplitError, match="cannot be generalised over the batch size") as error:
        fl.split(Net(forward), x(4))
    assert error.value.received == received


def test_a_function_that_holds_a_size_is_refused():
    def forward(m, batch):
        count = len(batch)
        return hooked(out(m, batch), lambda gradient: gradient * count)

    with pytest.raises(fl.SplitError, match="cannot be generalised over the batch size") as error:
        fl.split(Net(forward), x(4))
    assert "for one batch size" in error.value.received


SAMES = {
    "a flag": lambda m, x: out(m, x).sum(1, keepdim=True), "no number": lambda m, x: out(m, x).nan_to_num(nan=math.nan),
    "a constant": lambda m, x: out(m, x) + torch.tensor([math.nan, *[1.0] * (D - 1)]),
    "whole numbers": lambda m, x: out(m, x) + torch.arange(D),
    "a hook": lambda m, x: hooked(out(m, x), lambda g: g * 2),
    "slices": lambda m, x: out(m, x)[0 : x.shape[0] : 1, : x.shape[1]],
    "three halves": lambda m, x: torch.cat([out(m, x), out(m, x)[: x.shape[0] // 2]])[: x.shape[0] * 3 // 2],
    "all but the first": lambda m, x: out(m, x).narrow(0, 1, x.shape[0] - 1),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMES)
def test_what_stays_or_follows_the_batch_is_exact_at_every_size(name):
    model = Net(SAMES[name]).eval()
    split = fl.split(model, x(4))
    assert has_graph(split)
    for count in (1, 3, 7):
        batch = x(count)
        assert torch.equal(split.head(*split.extract(batch)).nan_to_num(), model(batch).nan_to_num())


def test_numbers_and_texts_of_the_output_are_handed_out_as_they_are():
    split = fl.split(Net(lambda m, x: {"a": out(m, x), "n": 3, "share": 0.5, "name": "x"}), x(4))
    found = split.head(*split.extract(x(2)))
    assert (found["n"], found["share"], found["name"]) == (3, 0.5, "x")


def test_a_number_that_is_no_size_and_differs_is_refused():
    model = Net(lambda m, x: m.high(unanswered(m, x)) * (1.0 / len(x)), other=nn.Identity())
    with pytest.raises(fl.SplitError, match="cannot be generalised over the batch size") as error:
        fl.split(model, x(4))
    assert error.value.received == "0.5 for 2 samples, 0.25 for 4"
