"""Laws of splitting, on random networks: the head is the model, and the model is left as it was."""

from __future__ import annotations

import copy
import ctypes
import inspect
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

import frostline as fl
from laws.networks import Plan, plans

networks = plans()
counts = st.integers(2, 7)


def stored(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Features as a cache gives them: plain rows in memory of their own."""
    return tuple(feature.clone(memory_format=torch.contiguous_format) for feature in features)


def outcome(model: nn.Module, run: Any, seed: int) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Output, gradients by name and buffers after one pass, from this random state."""
    model.zero_grad()
    torch.manual_seed(seed)
    output = run()
    (output * torch.linspace(-1, 2, output.numel()).view_as(output)).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return output.detach(), gradients, {name: buffer.clone() for name, buffer in model.named_buffers()}


def assert_same(found: Any, expected: Any) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        if isinstance(theirs, dict):
            assert list(ours) == list(theirs)
            assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
        else:
            assert torch.equal(ours, theirs)


@settings(max_examples=30)
@given(networks, counts, counts, st.booleans())
@example(Plan("image", ("dropout", "conv"), 0, 0.0, is_channels_last=True), 4, 5, True)
def test_the_head_of_extracted_features_is_the_model_to_the_bit(plan, recorded, count, training):
    model = plan.frozen()
    reference = copy.deepcopy(model)
    split = fl.split(model, plan.inputs(recorded))
    batch = plan.inputs(count, seed=1)
    for part in (model, reference, split.head):
        part.train(training)
    expected = outcome(reference, lambda: reference(batch), seed=5)
    features = stored(split.extract(batch))
    assert_same(outcome(model, lambda: split.head(*features), seed=5), expected)


@settings(max_examples=12)
@given(networks, counts)
def test_features_from_before_the_training_serve_after_it(plan, count):
    model = plan.frozen()
    reference = copy.deepcopy(model)
    split = fl.split(model, plan.inputs(4))
    batch = plan.inputs(count, seed=1)
    features = stored(split.extract(batch))
    kept = stored(features)
    optimizers = [torch.optim.SGD([p for p in part.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
                  for part in (split.head, reference)]  # fmt: skip
    for part in (split.head, reference):
        part.train()
    for step in range(3):
        expected = outcome(reference, lambda: reference(batch), seed=step)
        assert_same(outcome(model, lambda: split.head(*features), seed=step), expected)
        for optimizer in optimizers:
            optimizer.step()
    for key, value in reference.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert_same(features, kept)
    assert_same(split.extract(batch), kept)
    assert split.verify(batch).is_exact


@settings(max_examples=20)
@given(networks)
@example(Plan("vector", ("functional",), 0, 0.5))
def test_the_parameters_of_the_head_are_those_of_the_model(plan):
    model = plan.frozen()
    split = fl.split(model, plan.inputs(4))
    own = {name: id(p) for name, p in model.named_parameters() if p.requires_grad}
    trainable = {name: id(p) for name, p in split.head.named_parameters() if p.requires_grad}
    assert trainable == own
    assert set(split.head.state_dict()) <= set(model.state_dict())
    for name, buffer in split.head.named_buffers():
        assert buffer is model.get_buffer(name)


@settings(max_examples=15)
@given(networks)
def test_no_feature_depends_on_its_mates(plan):
    model = plan.frozen()
    split = fl.split(model, plan.inputs(4))
    batch = plan.inputs(6, seed=2)
    together, alone = split.extract(batch), [split.extract(batch[at : at + 1]) for at in range(6)]
    for at, entry in enumerate(split.frontier):
        rows = together[at] if entry.shared else torch.cat([features[at] for features in alone])
        torch.testing.assert_close(together[at], rows, rtol=1e-4, atol=1e-5)
        assert tuple(together[at].shape) == (entry.shape if entry.shared else (6, *entry.shape))


# What is the user's stays as it was


class Fuse:
    """Burns on: a split puts back the lists that modules hold, and refuses what counts in sight; this it cannot see."""

    __slots__ = ("left",)

    def __init__(self, values):
        self.left = ctypes.c_long(*values)

    def __getitem__(self, index):
        return self.left.value

    def __setitem__(self, index, value):
        self.left.value = value


BURNT_IN: list[set[str]] = []  # the functions that were running when a bomb went off


class BurstError(Exception):
    """An error of no kind that a recording or a head raises by itself, so that it is the model's own."""


class Bomb(nn.Module):
    """Lets values through until the fuse has burnt down."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error, self.fuse = error, Fuse([-1])

    def forward(self, x: Tensor) -> Tensor:
        self.fuse[0] -= 1
        if self.fuse[0] == 0:
            BURNT_IN.append({caller.function for caller in inspect.stack(0)})
            raise self.error
        return x


def mess_up(model: nn.Module, seed: int) -> None:
    """Modes, gradients and hooks as only a user can leave them."""
    generator = random.Random(seed)
    for module in model.modules():
        module.training = generator.random() < 0.5
        if generator.random() < 0.3:
            module.register_forward_hook(lambda module, args, output: None)
        if generator.random() < 0.3:
            module.register_forward_pre_hook(lambda module, args: None)
    list(model.children())[-1].register_full_backward_hook(lambda module, given, output: None)
    fl.freeze(model, parameters=[p for p in model.parameters() if not p.requires_grad])  # frozen is in inference mode
    for parameter in model.parameters():
        if parameter.requires_grad and generator.random() < 0.5:
            parameter.grad = torch.ones_like(parameter)


def everything(model: nn.Module) -> dict[str, Any]:
    """All that a call of ours may touch, in values that compare."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    hooks = {
        f"{name}.{key}": (id(table), list(table.items()))
        for name, module in model.named_modules()
        for key, table in vars(module).items()
        if "hook" in key and isinstance(table, dict)
    }
    state = np.random.get_state(legacy=False)["state"]
    return {
        "modes": [module.training for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "children": [(name, id(module)) for name, module in model.named_modules()],
        "hooks": hooks,
        "global hooks": (len(torch.nn.modules.module._global_forward_hooks), nn.Module.__call__.__qualname__,
                         id(nn.Module.__call__), id(torch.autograd.Function.apply.__func__)),
        "tensors": {name: (id(tensor), tensor.detach().numpy().tobytes(), tensor.stride(), tensor.requires_grad)
                    for name, tensor in tensors.items()},
        "gradients": {name: None if p.grad is None else (id(p.grad), p.grad.numpy().tobytes())
                      for name, p in model.named_parameters()},
        "generators": (random.getstate(), state["pos"], state["key"].tobytes(), torch.get_rng_state().tolist()),
        "settings": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled(),
                     torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()),
        "listeners": len(_get_current_function_mode_stack()),
    }  # fmt: skip


def assert_untouched(model: nn.Module, before: dict[str, Any]) -> None:
    after = everything(model)
    for what, value in before.items():
        assert after[what] == value, what


# torch warns where a backward hook meets a module whose input needs no gradient, as it does in the user's own loop
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@settings(max_examples=20)
@given(networks, st.integers(0, 99), st.booleans())
def test_splitting_extracting_and_verifying_leave_the_model_as_it_was(plan, seed, has_gradients):
    model = plan.frozen()
    mess_up(model, seed)
    before = everything(model)
    with torch.set_grad_enabled(has_gradients):
        split = fl.split(model, plan.inputs(4))
        assert torch.is_grad_enabled() == has_gradients
    assert_untouched(model, before)
    split.extract(plan.inputs(3))
    assert_untouched(model, before)
    split.verify(plan.inputs(3))
    assert_untouched(model, before)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@settings(max_examples=30)
@given(
    networks, st.integers(0, 99), st.integers(1, 24), st.booleans(), st.sampled_from([BurstError, KeyboardInterrupt])
)
def test_an_error_anywhere_in_a_split_leaves_the_model_as_it_was(plan, seed, fuse, is_low, kind):
    bomb = Bomb(kind("bang"))
    model = nn.Sequential(plan.build(), nn.Linear(2, 2))
    model.insert(0 if is_low else 1, bomb)
    fl.freeze(model, through=f"{1 if is_low else 0}.{plan.cut(model[1 if is_low else 0])}")
    mess_up(model, seed)
    before = everything(model)
    BURNT_IN.clear()
    bomb.fuse[0] = fuse
    try:
        fl.split(model, plan.inputs(4))
    except kind:
        assert kind is KeyboardInterrupt
        assert bomb.fuse[0] == 0
    except fl.SplitError as error:
        assert isinstance(error.__cause__, kind)
        assert "BurstError: bang" in error.received
        assert bomb.fuse[0] < 1
    else:
        # an error of one call in a proof says nothing of the model: the proof is made again, and holds
        assert bomb.fuse[0] > 0 or (kind is BurstError and BURNT_IN[0] & {"_outcome", "_compared"})
    bomb.fuse[0] = -1
    assert_untouched(model, before)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@settings(max_examples=10)
@given(networks, st.integers(0, 99), st.integers(1, 5), st.sampled_from(["extract", "verify"]))
def test_an_error_in_a_later_call_leaves_the_model_as_it_was(plan, seed, fuse, method):
    bomb = Bomb(KeyError("bang"))
    model = nn.Sequential(bomb, plan.build())
    fl.freeze(model, through=f"1.{plan.cut(model[1])}")
    mess_up(model, seed)
    split = fl.split(model, plan.inputs(4))
    before = everything(model)
    bomb.fuse[0] = 1 if method == "extract" else fuse
    with pytest.raises((fl.DataError, fl.SplitError), match="KeyError.*bang") as error:
        for _ in range(5):
            getattr(split, method)(plan.inputs(3))
    assert isinstance(error.value.__cause__, KeyError)
    assert_untouched(model, before)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@settings(max_examples=10)
@given(networks, st.integers(0, 99), st.sampled_from(["Everything is frozen", "too small", "draws random numbers"]))
def test_a_refusal_leaves_the_model_as_it_was(plan, seed, reason):
    model = plan.frozen()
    if reason == "Everything is frozen":
        fl.freeze(model)
    elif reason == "draws random numbers":
        model = nn.Sequential(nn.Dropout(0.5), *model)
    mess_up(model, seed)
    if reason == "draws random numbers":
        model[0].training = True
    before = everything(model)
    with pytest.raises(fl.FrostlineError, match=reason):
        fl.split(model, plan.inputs(1 if reason == "too small" else 4))
    assert_untouched(model, before)


def test_a_cut_behind_the_attention_of_an_encoder_layer_with_dropout_splits():
    model = Plan("tokens", ("encoder",), 0, 0).build()
    fl.freeze(model, through="1.self_attn")
    assert fl.split(model, torch.randn(4, 3, 4)).explain().verification.is_exact
