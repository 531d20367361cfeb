from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from frostline.core.tracing import hooked, tensors_in, trace
from remedies.surgeon import untouched


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        y = F.relu(self.a(x))
        y += 1
        z = self.norm(self.b(y)) * self.scale
        return {"out": torch.cat([y, z]), "more": self.attention(z, z, z)}


def test_who_feeds_whom():
    model, x = Net(), torch.randn(3, 4)
    with untouched(model):
        traced = trace(model, x)
    by_name = {step.name: step for step in traced.steps}
    assert list(by_name) == ["a", "relu", "add_", "b", "norm", "mul", "cat", "attention"]

    def feeds(name):
        return sorted(traced.steps[at].name if at >= 0 else "output" for at in by_name[name].feeds)

    assert feeds("a") == ["relu"]
    assert feeds("relu") == ["add_"]
    assert feeds("add_") == ["b", "cat"]
    assert feeds("attention") == ["output"]
    assert by_name["mul"].parameters == {id(model.scale)}
    assert by_name["b"].shapes == [(3, 4)]
    assert [step.name for step in traced.after(by_name["b"], stop=lambda step: step.name == "mul")] == ["norm", "mul"]
    assert by_name["b"].has_weights
    assert not by_name["norm"].has_weights


def test_buffers_are_left_as_they_were():
    model = Net()
    mean = model.norm.running_mean.clone()
    trace(model, torch.randn(3, 4))
    assert torch.equal(model.norm.running_mean, mean)
    assert int(model.norm.num_batches_tracked) == 0


@dataclass
class Output:
    logits: torch.Tensor
    extra: tuple


def test_tensors_are_found_in_plain_objects():
    a, b = torch.ones(1), torch.ones(2)
    assert len(tensors_in([Output(a, (b, 1)), {"x": a}])) == 3
    assert tensors_in((nn.Linear(2, 2), 1)) == []


def test_a_hook_is_gone_after_its_block():
    layer, seen = nn.Linear(2, 2), []
    with hooked(layer, lambda *_: seen.append(1)):
        layer(torch.ones(1, 2))
    layer(torch.ones(1, 2))
    assert seen == [1]
