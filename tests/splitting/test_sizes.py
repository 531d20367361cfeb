import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import Net, x

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
    batch = x(count)
    assert torch.equal(split.head(*split.extract(batch)), model(batch))


def test_the_batch_is_read_off_a_stored_tensor():
    split = fl.split(Net(SIZES["twice the batch"]), x(4))
    assert ".size(0)" in split.head.code


def test_other_calls_for_another_batch_are_refused():
    model = Net(lambda m, x: m.high(m.low(x)).tanh() if len(x) > 2 else m.high(m.low(x)))
    with pytest.raises(fl.SplitError, match="cannot be generalised over the batch size") as error:
        fl.split(model, x(4))
    assert error.value.received == "the model makes other calls for another batch size"


def test_a_number_that_is_no_size_and_differs_is_refused():
    model = Net(lambda m, x: m.high(m.low(x)) * (1.0 / len(x)), other=nn.Identity())
    with pytest.raises(fl.SplitError, match="cannot be generalised over the batch size") as error:
        fl.split(model, x(4))
    assert error.value.received == "0.5 for 2 samples, 0.25 for 4"
