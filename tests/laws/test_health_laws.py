"""Watching changes nothing: not a bit of the training, and nothing is left behind."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.core.restore import generator_states
from helpers_health import CLASSES, FEATURES, mlp, run, sgd, task


def network(kind: str) -> nn.Module:
    torch.manual_seed(4)
    if kind == "convolutions":
        return nn.Sequential(nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                             nn.Flatten(), nn.Linear(48, CLASSES))  # fmt: skip
    if kind == "dropout":
        return nn.Sequential(mlp(2), nn.Dropout(0.3))
    if kind == "frozen":
        model = mlp(4)
        model[:3].requires_grad_(False)
        return model
    return nn.Sequential(nn.Unflatten(1, (3, 4)), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
                         nn.Flatten(), nn.Linear(FEATURES, CLASSES))  # fmt: skip


KINDS = st.sampled_from(["convolutions", "dropout", "frozen", "attention"])
OPTIMIZERS = {"sgd": sgd, "adam": lambda model: torch.optim.Adam([p for p in model.parameters() if p.requires_grad])}


def surroundings(model, optimizer):
    """Hooks, modes, and the generators; of tensors their hooks."""
    hooks = [
        [list(table) for table in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks,
                                   m._forward_hooks_with_kwargs, m._forward_pre_hooks_with_kwargs,
                                   m._forward_hooks_always_called)]
        for m in model.modules()
    ]  # fmt: skip
    own = [list(p._backward_hooks or ()) + list(p._post_accumulate_grad_hooks or ()) for p in model.parameters()]
    steps = [list(optimizer._optimizer_step_pre_hooks), list(optimizer._optimizer_step_post_hooks)]
    return hooks, own, steps, [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]


def bits(model, optimizer):
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, torch.Tensor)]
    return [tensor.detach().clone() for tensor in (*tensors, *state)]


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@settings(max_examples=12)
@given(KINDS, st.sampled_from(sorted(OPTIMIZERS)), st.integers(1, 4), st.booleans(), st.integers(0, 9))
def test_a_watched_training_is_the_same_to_the_bit(kind, name, every, has_optimizer, steps):
    plain = network(kind)
    seen = copy.deepcopy(plain)
    results = []
    for model in (plain, seen):
        optimizer = OPTIMIZERS[name](model)
        torch.manual_seed(9)
        if model is plain:
            run(model, optimizer, data=task(steps))
        else:
            before = surroundings(model, optimizer)
            with fl.Monitor(model, optimizer if has_optimizer else None, every=every) as monitor:
                run(model, optimizer, monitor, task(steps))
            _ = monitor.diagnosis, monitor.records, monitor.overhead, monitor.unseen
            assert surroundings(model, optimizer) == before
        results.append((bits(model, optimizer), generator_states()))
    assert same(results[0][0], results[1][0])
    assert torch.equal(results[0][1][2], results[1][1][2])
    assert str(results[0][1][:2]) == str(results[1][1][:2])


@settings(max_examples=12)
@given(KINDS, st.sampled_from(["forward", "loss", "backward", "step", "after"]), st.integers(0, 3), st.booleans())
def test_an_error_anywhere_in_the_block_leaves_nothing_behind(kind, place, when, has_optimizer):
    model = network(kind)
    optimizer = sgd(model)
    before = surroundings(model, optimizer)

    def at(name, step):
        if name == place and step == when:
            raise KeyError(name)

    with (
        pytest.raises(KeyError, match=place),
        fl.Monitor(model, optimizer if has_optimizer else None, every=1) as monitor,
    ):
        for step, (inputs, target) in enumerate(task(5)):
            output = model(inputs)
            at("forward", step)
            loss = F.cross_entropy(output, target)
            at("loss", step)
            loss.backward()
            at("backward", step)
            optimizer.step()
            at("step", step)
            monitor.step(loss)
            optimizer.zero_grad()
            at("after", step)
    assert surroundings(model, optimizer) == before
    assert len(monitor.records) <= 5
