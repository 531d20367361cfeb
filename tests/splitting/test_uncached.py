import torch
from torch import nn

import frostline as fl
from frostline.splitting import frozen_side_in_inference_mode
from helpers_splitting import D, Net, two_dropouts, x


def test_an_uncached_model_leaves_out_the_same_noise():
    model = Net(two_dropouts, mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    split, batch = fl.split(model, x(4)), x(5)
    model.train()
    with frozen_side_in_inference_mode(model, x(4)) as notes:
        torch.manual_seed(3)
        expected = model(batch)
    assert len(notes) == 1
    assert not model._forward_hooks
    torch.manual_seed(3)
    torch.testing.assert_close(split.head.train()(*split.extract(batch)), expected)
    assert not torch.equal(model(batch), expected)


def test_a_model_that_cannot_be_recorded_is_trained_as_it_is():
    def forward(m, batch):
        m.low.weight.data.mul_(0.9)
        return m.high(m.low(batch))

    with frozen_side_in_inference_mode(Net(forward), x(4)) as notes:
        assert notes == ()
