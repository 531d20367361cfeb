"""Trains a copy under a monitor, and gathers everything that the rules judge by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline import remedies
from frostline.core import inputs as batches
from frostline.core.errors import FrostlineError
from frostline.core.layers import is_pinned
from frostline.core.restore import kept_buffers, kept_modes
from frostline.health import Evidence, Monitor, NormFacts, Patient, Score, probe_loss, score, train
from frostline.health.evidence import facts_of_input
from frostline.health.records import StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.recipes.examination.batching import Batch

_SEEN_SAMPLES = 512  # by which the scale of the inputs is judged
_COMPARED = 20  # batches on which BatchNorm is compared, and the model scored


@dataclass(frozen=True)
class Observation:
    """One training, seen from all sides."""

    evidence: Evidence
    score: Score


def observe(
    patient: Patient, data: Sequence[Batch], judged: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *,
    samples: int = 60, whole: Sequence[Batch] | None = None,
) -> Observation:  # fmt: skip
    """Train the patient on the data, measure every layer so many times, and judge by other data.

    Args:
        patient: Trained in place.
        data: What it trains on.
        judged: What it is judged by.
        loss_fn: callable(output, target) -> scalar.
        samples: How often every layer is measured.
        whole: All the batches as they were given, in which values that are not finite are looked up.
    """
    facts = _facts_of_loss(patient.model, data, loss_fn)
    statistics = _running_statistics(patient.model)
    every = max(1, len(data) // samples)
    with Monitor(patient.model, patient.optimizer, every=every, budget=math.inf) as monitor:
        norms = train(patient, data, loss_fn, monitor=monitor).norms
    evidence = replace(
        _with_inputs(monitor.evidence, data),
        loss=facts,
        gradient_norms=norms,
        norms=_compare_norms(patient, data, loss_fn, statistics),
    )
    return Observation(_with_input_rows(evidence, whole or data), score(patient.model, judged, loss_fn))


def _facts_of_loss(model: nn.Module, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> Any:
    inputs, target = data[0]
    with kept_modes(model), kept_buffers(model):
        model.eval()
        output = batches.call(model, inputs)
    return probe_loss(loss_fn, output, target)


def _norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    return {
        name: module for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not is_pinned(module)
    }  # fmt: skip


def _running_statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: m.running_mean.detach().clone() for name, m in _norms(model).items() if m.running_mean is not None}


def _compare_norms(
    patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor],
    before: dict[str, Tensor],
) -> NormFacts | None:  # fmt: skip
    """Losses with running, exact and batch statistics; layers that move although they are frozen."""
    norms = _norms(patient.model)
    if not norms:
        return None
    frozen = [
        name for name, module in norms.items()
        if module.affine and not module.weight.requires_grad and module.training
        and name in before and not torch.equal(before[name], _mean(module))
    ]  # fmt: skip
    kept = {name: module for name, module in norms.items() if module.training and module.running_mean is not None}
    if not kept:
        return NormFacts(tuple(norms), moving_in_frozen=tuple(frozen))
    part = data[-_COMPARED:]
    with kept_buffers(patient.model):
        in_training = score(patient.model, part, loss_fn, train_mode=True)
    in_eval = score(patient.model, part, loss_fn)
    exact = _exact(patient, data, part, loss_fn)
    smallest = min(_values_per_channel(patient.model, kept, data[0][0]))
    momenta = [module.momentum for module in kept.values() if module.momentum is not None]
    return NormFacts(
        tuple(kept), smallest, min(momenta, default=None), _finite(in_training.loss), _finite(in_eval.loss),
        _finite(exact), tuple(frozen),
    )  # fmt: skip


def _exact(
    patient: Patient, data: Sequence[Batch], part: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]
) -> float:
    try:
        change = remedies.reestimate_batchnorm(patient.model, data)
    except FrostlineError:  # values that are not finite: another rule says so
        return math.nan
    try:
        return score(patient.model, part, loss_fn).loss
    finally:
        change.undo()


def _values_per_channel(model: nn.Module, norms: dict[str, Any], inputs: Any) -> list[int]:
    counts: list[int] = []

    def hear(_: nn.Module, args: tuple[Any, ...]) -> None:
        counts.append(args[0].numel() // args[0].shape[1])

    handles = [module.register_forward_pre_hook(hear) for module in norms.values()]
    try:
        with kept_modes(model), kept_buffers(model), torch.no_grad():
            model.eval()
            batches.call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return counts or [2**31]


def _with_input_rows(evidence: Evidence, data: Sequence[Batch]) -> Evidence:
    """The first batch whose inputs are not finite, looked up in the data: it may lie between samples."""
    for step, (inputs, _) in enumerate(data):
        for tensor in batches.leaves(inputs).values():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                rows = (~torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)).nonzero().flatten().tolist()
                records = [r for r in evidence.records if r.step < step and r.nonfinite is None]
                odd = StepRecord(step, None, None, (), "input", tuple(rows[:16]))
                return replace(evidence, records=(*records, odd))
    return evidence


def _with_inputs(evidence: Evidence, data: Sequence[Batch]) -> Evidence:
    """The scale of the inputs over many samples, and their largest outlier: the monitor saw those of one batch."""
    tensors = [t for inputs, _ in data for t in list(batches.leaves(inputs).values())[:1] if t.dim() > 1 and len(t)]
    if not tensors or not tensors[0].is_floating_point() or tensors[0].is_complex():
        return evidence
    alike = [tensor for tensor in tensors if tensor.shape[1:] == tensors[0].shape[1:]]
    count = -(-_SEEN_SAMPLES // max(1, len(alike[0])))
    facts = facts_of_input(torch.cat(alike[:count]), (), {})
    if facts is None:
        return evidence
    sizes = [tensor.detach().abs().float().nan_to_num(0.0, 0.0, 0.0).flatten(1).amax(dim=1) for tensor in tensors]
    sizes_N = torch.cat(sizes)
    outlier = float(sizes_N.max() / sizes_N.median().clamp_min(1e-12))
    first = next((layer.kind for layer in evidence.layers), "")
    return replace(evidence, inputs=replace(facts, outlier=outlier, is_normalised=first == "norm"))


def _mean(module: Any) -> Tensor:
    return module.running_mean


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
