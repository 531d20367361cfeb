"""What every remedy has to leave as it was, and what its undo has to bring back."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import torch
from torch import nn

from frostline.core.restore import generator_states


def fingerprint(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> tuple:
    """Everything that undo restores: identities and values."""
    modules = [
        (id(m), m.training, list(m._modules), [id(c) for c in m._modules.values()], list(m._parameters),
         [id(p) for p in m._parameters.values()], list(m._buffers), [id(b) for b in m._buffers.values()])
        for m in model.modules()
    ]  # fmt: skip
    values = [(name, tensor.detach().clone()) for name, tensor in model.state_dict(keep_vars=True).items()]
    trains = [p.requires_grad for p in model.parameters()]
    if optimizer is None:
        return modules, values, trains, None
    order = [id(p) for group in optimizer.param_groups for p in group["params"]]
    return (
        modules,
        values,
        trains,
        (order, [id(g) for g in optimizer.param_groups], copy.deepcopy(optimizer.state_dict())),
    )


def same(first, second) -> bool:
    """Equal to the bit, NaN and nesting included."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return first == second


@contextmanager
def undone(model, optimizer=None):
    """Yields a list for the Change; afterwards trains a few steps, undoes, and compares with the state before."""
    before = fingerprint(model, optimizer)
    changes: list = []
    yield changes
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.add_(1)
    if optimizer is not None:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 7.0
    model.train(not model.training)
    for change in reversed(changes):
        change.undo()
    assert same(fingerprint(model, optimizer), before)


@contextmanager
def untouched(model):
    """Modes, hooks, gradients and generators are those of before."""

    def state():
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in kept]
        return [m.training for m in kept], hooks, [p.grad for p in parameters], generator_states()

    kept, parameters = list(model.modules()), list(model.parameters())
    before = state()
    yield
    after = state()
    assert before[:2] == after[:2]
    assert all(a is b for a, b in zip(before[2], after[2], strict=True))
    assert all(same(a, b) if not isinstance(a, dict) else str(a) == str(b)
               for a, b in zip(before[3], after[3], strict=True))  # fmt: skip


def trained(model: nn.Module, *inputs, optimizer=torch.optim.Adam) -> torch.optim.Optimizer:
    """An optimizer that has state, and a model whose parameters have gradients."""
    made = optimizer([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model(*inputs).float().square().mean().backward()
    made.step()
    return made
