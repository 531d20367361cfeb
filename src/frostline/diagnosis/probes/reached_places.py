"""Which places of a sequence reach the output of a model, and whether their order does.

Legend: B samples of a batch, T places, D values of a place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.evaluation_pass import evaluation, weights_of
from frostline.diagnosis.rules.wiring_records import ReachFacts

_FEWEST, _MOST = 4, 16  # places that are changed, one after the other; of more, so many spread over the sequence
_FEWEST_ROWS = 8
_SAME = 1e-6  # of the largest output: rounding


def facts_of_reach(model: nn.Module, inputs: Any, start: dict[str, Tensor] | None = None) -> ReachFacts | None:
    """Which places of a sequence, and which values of any real input, change the output; None where nothing is known.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        inputs: Of a batch.
        start: Its weights of before the training, by name, for what padding does; None takes its own.
    """
    places, unused = _of_places(model, inputs), (*_unused(model, inputs), *_unused_numbers(model, inputs))
    with weights_of(model, start or {}):
        padded = _padded(model, inputs)
    if places is None:
        return ReachFacts(unused=unused, padded=padded) if unused or padded else None
    return replace(places, unused=unused, padded=padded)


def _of_places(model: nn.Module, inputs: Any) -> ReachFacts | None:
    """None where the input is no sequence, or the output not one row for each sample, and all values are used.

    A place is changed to what another sample has there; one that is the same in all samples is left out.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        inputs: A tensor of whole numbers (B, T), or of real ones (B, T, D).
    """
    if not isinstance(inputs, Tensor) or len(inputs.shape) != (3 if inputs.is_floating_point() else 2):
        return None
    if len(inputs) < _FEWEST_ROWS or inputs.shape[1] < _FEWEST:
        return None
    varying = [at for at in range(inputs.shape[1]) if bool((inputs[:, at] != inputs[:1, at]).any())]
    places = varying[:: max(1, -(-len(varying) // _MOST))]
    with evaluation(model):
        before, again = _output(model, inputs), _output(model, inputs)
        if before is None or again is None or len(before) != len(inputs) or not torch.equal(before, again):
            return None
        reached = [at for at in places if _is_changed(model, before, _with_another(inputs, at))]
        sees_order = _is_changed(model, before, inputs.flip(1)) if len(places) >= _FEWEST else None
    return ReachFacts(len(places), len(reached), sees_order) if len(places) >= _FEWEST else None


def _with_another(inputs: Tensor, at: int) -> Tensor:
    others = inputs.clone()
    others[:, at] = inputs[:, at].roll(1, 0)
    return others


def _is_changed(model: nn.Module, before: Tensor, inputs: Tensor) -> bool:
    after = _output(model, inputs)
    if after is None or after.shape != before.shape:
        return True
    return bool((after - before).abs().max() > _SAME * before.abs().max())


def _output(model: nn.Module, inputs: Tensor) -> Tensor | None:
    """Of shape (B, C), with the same noise in every pass; None of others."""
    seed_generators(0)
    with torch.no_grad():
        output = batches.call(model, inputs)
    is_plain = isinstance(output, Tensor) and output.dim() == 2 and output.is_floating_point()
    return output if is_plain and bool(torch.isfinite(output).all()) else None


def _unused(model: nn.Module, inputs: Any) -> tuple[tuple[str, int, int], ...]:
    """Values of real inputs along their second axis to which no output has a slope, and that change none."""
    leaves = {name: one for name, one in batches.leaves(inputs).items() if one.is_floating_point() and one.dim() > 1}
    if not leaves or any(len(one) < _FEWEST_ROWS for one in leaves.values()):
        return ()
    asked = batches.map_tensors(inputs, lambda one: one.detach().clone().requires_grad_(one.is_floating_point()))
    with evaluation(model):
        with torch.enable_grad():
            outputs = [one for one in batches.leaves(batches.call(model, asked)).values() if one.requires_grad]
            total = sum(
                ((one * torch.randn_like(one)).sum() for one in outputs if one.is_floating_point()), torch.zeros(())
            )
        if not total.requires_grad:
            return ()
        given = {name: one for name, one in batches.leaves(asked).items() if name in leaves}
        slopes = torch.autograd.grad(total, list(given.values()), allow_unused=True, materialize_grads=True)
        if not any(bool(slope.any()) for slope in slopes):
            return ()  # rounded on the way, or dead
        found: list[tuple[str, int, int]] = []
        for (name, values), slope in zip(leaves.items(), slopes, strict=True):
            is_varying = (values != values[:1]).transpose(0, 1).flatten(1).any(1)
            is_idle = is_varying & ~slope.transpose(0, 1).flatten(1).any(1)
            if bool(is_idle.any()) and not _is_moved(model, inputs, values, is_idle):
                at = [str(one) for one in is_idle.nonzero().flatten().tolist()]
                listing = ", ".join(at[:4]) + (f" to {at[-1]}" if len(at) > 4 else "")
                what = f"values {listing} (axis 1) of the input" + (f" {name!r}" if len(leaves) > 1 else "")
                found.append((what, len(at), int(is_varying.sum())))
    return tuple(found)


def _unused_numbers(model: nn.Module, inputs: Any) -> tuple[tuple[str, int, int], ...]:
    """Whole numbers and masks, of several inputs, that differ between samples and change no output."""
    named = batches.leaves(inputs)
    leaves = {name: one for name, one in named.items() if not one.is_floating_point() and one.dim()}
    if len(named) < 2 or any(len(one) < _FEWEST_ROWS for one in leaves.values()):
        return ()
    found: list[tuple[str, int, int]] = []
    with evaluation(model):
        for name, values in leaves.items():
            others = values.roll(1, 0)
            if not torch.equal(values, others) and not _differs(model, inputs, values, others):
                found.append((f"all values of the input {name!r}", values[0].numel(), values[0].numel()))
    return tuple(found) if len(found) < len(named) else ()


def _is_moved(model: nn.Module, inputs: Any, values: Tensor, is_idle: Tensor) -> bool:
    """Whether any output changes if these values change places between samples."""
    others = values.clone()
    others[:, is_idle] = values.roll(1, 0)[:, is_idle]
    return _differs(model, inputs, values, others)


def _differs(model: nn.Module, inputs: Any, values: Tensor, others: Tensor) -> bool:
    """Whether any output changes if one input is another."""
    changed = batches.map_tensors(inputs, lambda one: others if one is values else one)
    pairs: list[list[Tensor]] = []
    for given in (inputs, changed):
        seed_generators(0)
        with torch.no_grad():
            pairs.append(list(batches.leaves(batches.call(model, given)).values()))
    return not all(map(torch.equal, *pairs))


def _padded(model: nn.Module, inputs: Any) -> float:
    """How far outputs of rows move, over their spread, if there is as much again of what pads them at the end."""
    if not isinstance(inputs, Tensor) or inputs.dim() != (3 if inputs.is_floating_point() else 2):
        return 0.0
    if len(inputs) < _FEWEST_ROWS or inputs.shape[1] < _FEWEST or not _is_padded(inputs):
        return 0.0
    more = torch.cat([inputs, inputs[:, -1:].mode(0, keepdim=True).values.expand_as(inputs)], 1)
    try:
        with evaluation(model):
            before, after = _output(model, inputs), _output(model, more)
    except FOREIGN:
        return 0.0  # a table of positions that is no longer
    if before is None or after is None or before.shape != after.shape or len(before) != len(inputs):
        return 0.0
    spread = (before - before.mean(0)).norm()
    return float((after - before).norm() / spread) if bool(spread > 0) and bool(torch.isfinite(after).all()) else 0.0


def _is_padded(inputs: Tensor) -> bool:
    """Whether rows end, after different places, in one value that stands nowhere else: a word, or zeros."""
    last = inputs[:, -1].flatten(1) if inputs.dim() == 3 else inputs[:, -1:]
    value = last.mode(0).values
    is_value = (inputs.reshape(*inputs.shape[:2], -1) == value).all(2)
    lengths = inputs.shape[1] - is_value.flip(1).long().cumprod(1).sum(1)
    is_rest = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
    is_zero = not inputs.is_floating_point() or not bool(value.any())
    return is_zero and len(lengths.unique()) > 1 and not bool((is_value & is_rest).any())
