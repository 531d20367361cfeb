"""Context managers that put back what they change in a user's model and process."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

GeneratorStates = tuple[Any, dict[str, Any], Tensor, tuple[Tensor, ...]] if TYPE_CHECKING else tuple


def generator_states() -> GeneratorStates:
    """The states of the global python, numpy, torch and CUDA generators."""
    cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else ()
    return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state(), cuda  # type: ignore[return-value]


def set_generator_states(states: GeneratorStates) -> None:
    """Put the global generators back to `states`."""
    python, numpy, cpu, cuda = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(list(cuda))


@contextmanager
def kept_generators() -> Iterator[None]:
    """Inside, draw as you like; outside, nobody can tell."""
    states = generator_states()
    try:
        yield
    finally:
        set_generator_states(states)


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Put every module's `training` flag back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def kept_gradients(model: nn.Module) -> Iterator[None]:
    """Set every `.grad` aside, and put the same tensors back."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


@contextmanager
def kept_values(model: nn.Module) -> Iterator[None]:
    """Put every parameter's and buffer's value back to the bit, in place, and rebound buffers to their tensors."""
    slots = [
        (module._buffers, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    tensors = [*model.parameters(), *(buffer for _, _, buffer in slots)]
    copies = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        for table, name, buffer in slots:
            table[name] = buffer
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)
