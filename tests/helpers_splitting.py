"""Small models with a forward that each test chooses, and a split that is checked at once."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import frostline as fl
from frostline.splitting.calls.containers import is_same

B, D = 5, 8


def check(
    model: nn.Module, example: Any, *, names: list[str] | None = None, is_graph: bool = True
) -> fl.Split:  # fmt: skip
    """Split, then compare with the model on fresh data of another batch size, in both modes, to the bit.

    What breaks in a graph is not seen in the results, since the head runs the model's own forward then: so which of
    the two it is belongs to what is expected.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    split = fl.split(model, example)
    for key, value in model.state_dict().items():
        assert is_same(value, before[key]), key
    assert modes == [module.training for module in model.modules()]
    if names is not None:
        assert [tensor.name for tensor in split.frontier] == names
    assert split.explain().verification.is_exact
    assert has_graph(split) is is_graph
    return split


def has_graph(split: fl.Split) -> bool:
    """Whether the head is a graph, and not the model's own forward over stored features."""
    return not any(note.startswith("the head runs the model's own forward") for note in split.explain().notes)


class Net(nn.Module):
    """Frozen `low`, trainable `high`, and a forward that each test gives."""

    def __init__(self, forward, **parts: nn.Module) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(D, D), nn.Linear(D, D)
        for name, part in parts.items():
            self.add_module(name, part)
        self._forward = forward
        self.low.requires_grad_(False)
        self.code = nn.Linear(D, D)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, *args, **kwargs):
        return self._forward(self, *args, **kwargs)


def x(count: int = B) -> Tensor:
    return torch.randn(count, D)


def unanswered(m: Any, x: Tensor) -> Tensor:
    """The frozen layer without a call of its module: nothing that a head could answer from the cache."""
    return F.linear(x, m.low.weight, m.low.bias)


def two_dropouts(m: Any, x: Tensor) -> Tensor:
    """One that feeds the frozen layer `mid`, and one of the trainable part."""
    h = m.mid(F.dropout(m.low(x), 0.5, m.training))
    return m.high(F.dropout(h, 0.5, m.training))


FORWARDS = {
    "plain": lambda m, x: m.high(m.low(x)),
    "residual": lambda m, x: (h := m.low(x)) + m.high(h),
    "two uses": lambda m, x: m.high(m.low(x)) * m.low(x).sigmoid(),
    "input reaches the head": lambda m, x: m.high(m.low(x)) + x,
    "in place on a trainable value": lambda m, x: m.high(m.low(x)).mul_(2).add_(1),
    "in place on a frozen value": lambda m, x: m.low(x).add_(m.high(x)),
    "setitem into a frozen value": lambda m, x: _set(m.low(x), m.high(m.low(x))),
    "setitem into zeros": lambda m, x: _set(torch.zeros(x.shape[0], D), m.high(m.low(x))),
    "copy_ into empty": lambda m, x: torch.empty(x.shape[0], D).copy_(m.high(m.low(x))) + 0,
    "a view written through its base": lambda m, x: _view_written(m, x),
    "a frozen value changed after it was taken": lambda m, x: _changed_later(m, x),
    "a frozen view changed through its base": lambda m, x: _base_changed(m, x),
    "out=": lambda m, x: m.high(torch.mul(m.low(x), 2, out=torch.empty(x.shape[0], D))),
    "reshape by size": lambda m, x: m.high(m.low(x)).view(x.size(0), 2, D // 2).reshape(x.shape[0] * 2, -1),
    "folded batch": lambda m, x: m.high(m.low(x).view(x.shape[0] * 2, D // 2).repeat(1, 2)).view(x.shape[0], -1),
    "batch on axis one": lambda m, x: m.high(m.low(x).view(-1, 2, D // 2).transpose(0, 1).repeat(1, 1, 2)).mean(0),
    "integers of a trainable value": lambda m, x: F.one_hot(m.high(m.low(x)).argmax(1), D) * m.high(m.low(x)),
    "detached": lambda m, x: m.high(m.low(x)) + m.high(m.low(x)).detach() ** 2,
    "no_grad inside": lambda m, x: m.high(m.low(x)) * _without_gradients(m, x),
    "dict output": lambda m, x: {"a": m.high(m.low(x)), "b": [m.low(x), None, 3]},
    "dataclass output": lambda m, x: Out(m.high(m.low(x)), ("text", m.low(x))),
    "stashed": lambda m, x: _stashed(m, x),
    "unregistered activation": lambda m, x: ACTIVATIONS["gelu"](m.high(ACTIVATIONS["gelu"](m.low(x)))),
    "iteration": lambda m, x: torch.stack([row * 2 for row in m.high(m.low(x)).unbind(1)]).t(),
    "loop over a tensor": lambda m, x: torch.stack([row for row in m.high(m.low(x)).t()]),
    "dropout before the head": lambda m, x: m.high(F.dropout(m.low(x), 0.5, m.training)),
    "gradient reversal": lambda m, x: m.high(Reverse.apply(m.high(m.low(x)))),
    "frozen above trainable": lambda m, x: m.low(m.high(m.low(x))),
    "functional weight": lambda m, x: F.linear(m.low(x), m.high.weight.tanh(), m.high.bias),
    "narrow": lambda m, x: m.high(m.low(x)).narrow(0, 0, x.shape[0] - 1),
    "mixed sizes": lambda m, x: m.high(m.low(x)).expand(3, x.shape[0], D).reshape(3 * x.shape[0], D),
    "autocast inside": lambda m, x: _autocast(m, x),
    "places in the batch": lambda m, x: m.high(m.low(x))[torch.arange(x.shape[0]), torch.arange(x.shape[0]) % D],
    "a mask of places in the batch": lambda m, x: m.high(m.low(x)) @ m.low(x).t() * (1 - torch.eye(x.shape[0]))[:, :],
    "a counter of the trainable part": lambda m, x: _counted(m, x),
    "a trainable layer named code": lambda m, x: m.code(m.low(x)),
    "integer steering by a frozen shape": lambda m, x: m.high(m.low(x)) if x.shape[1] == D else x,
}


@dataclass
class Out:
    logits: Tensor
    extra: Any


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


ACTIVATIONS = {"gelu": nn.GELU()}


def _set(target, value):
    target[:, 0] = value[:, 1]
    return target * 1


def _view_written(m, x):
    base = m.low(x)
    part = base[:, :4]
    part.add_(m.high(x)[:, :4])
    return base * 2 + base[:, :1]


def _counted(m, x):
    if m.training:
        m.seen += 1
    return m.high(m.low(x)) + 0 * m.seen


def _changed_later(m, x):
    h = m.low(x)
    y = m.high(x) + h
    h.mul_(0)
    return y + h


def _base_changed(m, x):
    h = m.low(x)
    part = h[:, :4]
    h.add_(1)
    return m.high(torch.cat([part, part], 1))


def _without_gradients(m, x):
    with torch.no_grad():
        return m.high(m.low(x)).softmax(1)


def _stashed(m, x):
    m.kept = m.low(x)
    y = m.high(m.kept)
    return y * m.kept


def _autocast(m, x):
    h = m.low(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = m.high(h)
    return y.float()
