"""The scale of the inputs, over many samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from frostline.core import inputs as batches
from frostline.diagnosis.monitor.evidence import facts_of_input
from frostline.diagnosis.probes.outliers import usual_limit
from frostline.diagnosis.rules.input_scale import oddness
from frostline.diagnosis.rules.limits import OUTLYING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.rules.records import Evidence, InputFacts

_SEEN_SAMPLES = 512  # by which the scale of the inputs is judged
_OF_MASKS = 2  # values
_AT_ONCE = 2**20  # values that are looked at in one go


def facts_of_inputs(evidence: Evidence, data: Sequence[Batch]) -> InputFacts | None:
    """The scale of many usual inputs, and their largest outlier: the monitor saw those of one batch.

    Where a model takes several, it is that of the one that is furthest from what layers can use.
    """
    by_name: dict[str, list[Tensor]] = {}
    for inputs, _ in data:
        for name, tensor in batches.leaves(inputs).items():
            if tensor.dim() > 1 and tensor.numel() and tensor.is_floating_point():
                by_name.setdefault(name, []).append(tensor)
    first = next(iter(by_name), "")
    kept = {name: own for name, own in by_name.items() if name == first or _are_features(own[0])}
    found = [(name, facts) for name, own in kept.items() if (facts := _facts_of_input(own)) is not None]
    if not found:
        return evidence.inputs
    name, facts = max(found, key=lambda one: oddness(one[1]))
    kind = next((layer.kind for layer in evidence.layers), "")
    has_several = len(batches.leaves(data[0][0])) > 1
    return replace(facts, is_normalised=kind == "norm", name=name if has_several else "")


def may_stand_out(facts: InputFacts | None, data: Sequence[Batch]) -> bool:
    """Whether rows may be far out of the data: in the first input, as was seen, or in inputs that were not measured."""
    inputs, target = data[0]
    others = [*list(batches.leaves(inputs).values())[1:], *batches.leaves(target).values()]
    return facts is None or facts.outlier > OUTLYING or any(tensor.is_floating_point() for tensor in others)


def _are_features(tensor: Tensor) -> bool:
    """False for masks, which hold two values, and for one number per sample, such as a time."""
    return tensor[0].numel() > 1 and len(tensor[:8].unique()) > _OF_MASKS


def _facts_of_input(tensors: list[Tensor]) -> InputFacts | None:
    alike = [tensor for tensor in tensors if tensor.shape[1:] == tensors[0].shape[1:]]
    step = max(1, _AT_ONCE // max(1, tensors[0].numel())) if len(alike) == len(tensors) else 1
    joined = [torch.cat(tensors[at : at + step]).detach().flatten(1) for at in range(0, len(tensors), step)]
    sizes = [part.float().abs().amax(dim=1) for part in joined]
    sizes_N = torch.cat(sizes).nan_to_num(0.0, 0.0, 0.0)
    outlier = float(sizes_N.max() / sizes_N.median().clamp_min(1e-12))
    count = -(-_SEEN_SAMPLES // max(1, len(alike[0])))
    found: list[InputFacts] = []
    for chosen in (alike[:count], alike[:: max(1, len(alike) // count)][:count]):  # some are in an order
        rows = torch.cat(chosen)
        if outlier > OUTLYING:  # a rule of its own names rare rows; the scale is that of the others
            rows = rows[rows.flatten(1).float().abs().amax(dim=1) <= usual_limit([sizes_N])]
        facts = facts_of_input(rows, (), {}, outlier=outlier)
        found += [facts] if facts is not None else []
    return min(found, key=lambda one: oddness(one)[0], default=None)
