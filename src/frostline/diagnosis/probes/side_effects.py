"""What a pass changes besides its result: its inputs, targets, weights, modes, and the generator of random numbers."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import (
    kept_attributes,
    kept_buffers,
    kept_generators,
    kept_modes,
    kept_parameters,
    seed_generators,
)
from frostline.diagnosis.rules.wiring_records import SideEffects

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.experiments.batches import Batch

    Loss = Callable[[Any, Any], Tensor]

_STAYS = 1e-3  # of the change by the first pass
_SEEDS = 1009, 2003  # of no other probe: weights that are drawn in each pass would be those of the pass before


def facts_of_side_effects(model: nn.Module, batch: Batch, loss_fn: Loss) -> SideEffects:
    """What is different after a pass in the modes in which the model trains, and after one in evaluation mode.

    Args:
        model: Left as it is.
        batch: (inputs, target), left as they are: the pass gets copies.
        loss_fn: callable(output, target) -> scalar.
    """
    inputs, target = batch
    given, wanted = (batches.map_tensors(part, Tensor.clone) for part in batch)
    trained = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    kept = (
        kept_modes(model), kept_buffers(model), kept_attributes(model, numbers=True), kept_parameters(model),
        kept_generators(), torch.no_grad(),
    )  # fmt: skip
    with ExitStack() as stack:
        for one in kept:
            stack.enter_context(one)
        modes = _modes(model)
        seed_generators(_SEEDS[0])
        before = torch.get_rng_state()
        output = batches.call(model, given)
        own = _changed(batches.leaves(inputs), batches.leaves(given))
        loss_fn(output, wanted)
        switched = [name for name, mode in _modes(model).items() if mode != modes.get(name, mode)]
        written = _changed(trained, dict(model.named_parameters()))
        first = torch.get_rng_state()
        for name, module in model.named_modules():
            module.training = modes.get(name, module.training)
        seed_generators(_SEEDS[1])
        again = batches.map_tensors(given, Tensor.clone)
        batches.call(model, again)
        is_reseeded = not torch.equal(before, first) and torch.equal(first, torch.get_rng_state())
        model.eval()
        batches.call(model, batches.map_tensors(inputs, Tensor.clone))
        switched += [name for name, mode in _modes(model).items() if mode and name not in switched]
        in_loss = [one for one in _changed(batches.leaves(inputs), batches.leaves(given)) if one not in own]
        labels = _changed(batches.leaves(target), batches.leaves(wanted))
        is_settled = (own or in_loss or labels) and _is_settled(model, loss_fn, batch, (given, wanted), again)
    settled = (*own, *in_loss, *labels) if is_settled else ()
    left = [tuple(one for one in names if one not in settled) for names in (own, in_loss, labels)]
    names = tuple(name for name in written if not _is_renormed(model, name))
    return SideEffects(left[0], left[1], left[2], names, tuple(switched), is_reseeded, settled)


def _is_settled(model: nn.Module, loss_fn: Loss, batch: Batch, changed: Batch, again: Any) -> bool:
    """Whether a change of a batch is the last one, and of no consequence: what is changed has the same loss.

    Args:
        model: In evaluation mode.
        loss_fn: callable(output, target) -> scalar.
        batch: As it was given.
        changed: After a pass.
        again: The inputs after the next one.
    """
    once, twice = batches.leaves(changed[0]), batches.leaves(again)
    before = batches.leaves(batch[0])
    for name, value in once.items():
        step, next_step = (_distance(*pair) for pair in ((before[name], value), (value, twice[name])))
        if next_step > _STAYS * step:
            return False
    owners = [{one.untyped_storage().data_ptr() for one in batches.leaves(part).values()} for part in batch]
    if owners[0] & owners[1]:
        return False  # inputs that are targets, too: these change with them
    losses: list[Tensor] = []
    for inputs, target in (batch, changed):
        seed_generators(_SEEDS[1])
        output = batches.call(model, batches.map_tensors(inputs, Tensor.clone))
        losses.append(loss_fn(output, batches.map_tensors(target, Tensor.clone)))
    return torch.allclose(losses[0], losses[1], rtol=_STAYS, atol=0.0, equal_nan=True)


def _distance(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    return float((one.double() - other.double()).nan_to_num(0.0).abs().max()) if one.numel() else 0.0


def _modes(model: nn.Module) -> dict[str, bool]:
    """Of modules that train, or hold such."""
    return {
        name: module.training for name, module in model.named_modules()
        if any(parameter.requires_grad for parameter in module.parameters())
    }  # fmt: skip


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    return [name for name, value in before.items() if name in after and not _are_same(value, after[name])]


def _are_same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    is_nan = one.isnan() & other.isnan() if one.is_floating_point() else torch.zeros_like(one, dtype=torch.bool)
    return bool(((one == other) | is_nan).all())


def _is_renormed(model: nn.Module, name: str) -> bool:
    """Whether it is the table of an embedding that keeps its rows within a norm, which it does in its forward."""
    owner = model.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, (nn.Embedding, nn.EmbeddingBag)) and owner.max_norm is not None
