"""Which places of a sequence reach the output of a model, and whether their order does.

Legend: B samples of a batch, T places, D values of a place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.rules.wiring_records import ReachFacts

_FEWEST, _MOST = 4, 16  # places that are changed, one after the other; of more, so many spread over the sequence
_FEWEST_ROWS = 8
_SAME = 1e-6  # of the largest output: rounding


def facts_of_reach(model: nn.Module, inputs: Any) -> ReachFacts | None:
    """None where the input is no sequence, or the output not one row for each sample.

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
