"""One after the other: the loop that everybody writes, to the bit."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.selection.heads.looped import LoopedHeads
from helpers_sweep import C, H, batch, settings, ways


def noisy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(H, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, C))


def written(head, make, seed, steps=4):
    optimizer, losses = make([*head.parameters()]), []
    torch.manual_seed(seed)
    head.train()
    for at in range(steps):
        (h_BH,), y_B = batch(16 + at)
        loss = F.cross_entropy(head(h_BH), y_B)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return losses


def test_each_head_is_trained_as_alone_to_the_bit():
    own = settings([{"lr": 0.1, "optimizer": "sgd"}, {"lr": 0.01, "seed": 7},
                    {"optimizer": lambda p: torch.optim.SGD(p, lr=0.5)}])  # fmt: skip
    heads = LoopedHeads([noisy() for _ in own], own, ways())
    losses = torch.stack([heads.step(*batch(16 + at)) for at in range(4)])
    makers = [lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.AdamW(p, lr=0.01),
              lambda p: torch.optim.SGD(p, lr=0.5)]  # fmt: skip
    for at, (make, seed) in enumerate(zip(makers, (0, 7, 0), strict=True)):
        head = noisy()
        assert torch.equal(losses[:, at], torch.stack(written(head, make, seed)))
        state = heads.state(at)
        assert set(state) == {*head.state_dict()}
        assert all(torch.equal(state[name], tensor) for name, tensor in head.state_dict().items())


def test_it_goes_on_with_the_heads_that_are_kept():
    own = settings({"lr": [0.1, 0.2, 0.3]})
    heads = LoopedHeads([noisy() for _ in own], own, ways())
    before = copy.deepcopy(heads.state(2))
    heads.keep([0, 2])
    assert heads.numbers == [0, 2]
    assert all(torch.equal(heads.state(1)[name], tensor) for name, tensor in before.items())
    assert heads.step(*batch()).shape == (2,)
    losses, outputs = heads.evaluate(*batch())
    assert losses.shape == (2,)
    assert [tuple(output.shape) for output in outputs] == [(16, C)] * 2
    assert not outputs[0].requires_grad


def test_a_loss_that_reaches_no_weight_is_told():
    heads = LoopedHeads([nn.Linear(H, C)], settings([{}]), ways(lambda output, target: torch.zeros(())))
    with pytest.raises(fl.DataError, match="The loss does not depend on any trainable parameter"):
        heads.step(*batch())
