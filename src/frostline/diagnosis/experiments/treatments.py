"""Treatments: one factor each, undone in place. What `checkup` tries on copies and `heal` keeps."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frostline import remedies
from frostline.core.errors import DataError
from frostline.core.inputs import batch_size
from frostline.core.layers import is_pinned
from frostline.diagnosis.rules import learning_rate_low, target_scale
from frostline.diagnosis.rules.advice import DRAW_ALL, INSERT_NORMS
from frostline.transfer import freeze

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.optim import Optimizer

    from frostline.core.records import Diagnosis, Finding
    from frostline.diagnosis.experiments.trial import Patient
    from frostline.diagnosis.rules.records import Evidence, TargetFacts

Batch = tuple[Any, Any]
_DEAD = 0.9  # of the units of a layer
BATCHNORM = "BatchNorm before the activations"  # helps against most things
_BY_NORMS = ("exploding", "dead_units", "vanishing")
_MOMENTUM, _LONG = 0.9, 0.97  # usual; averages over more than thirty steps
_REMEMBERED = 30  # norms
_FEWEST_FREE = 0.1  # of the batches
_FOR_STATISTICS = 2  # batches: training measures anew at once
# What new weights can cure: the symptom tells which of them it was.
_BY_WEIGHTS = ("symmetry", "saturation", "exploding", "dead_units", "vanishing", "initialization")


@dataclass(frozen=True)
class Remedy:
    """One factor that can be undone.

    Attributes:
        name: What is done, in words.
        families: The sicknesses that it speaks for, likeliest first.
        apply: Changes a patient in place, given the batches it trains on.
        finish: What is left to do after training, or None.
        needs_symptom: True if it speaks for a family only where a rule has found that family's symptom.
        key: What it is known by, where its name holds a number that was measured.
        is_due: True if what is known before training speaks for it as much as an issue would.
        code: Of the one rule that it proves right, where its family has several that contradict each other.
        is_structural: False if weights and the optimizer's state are all that it changes.
        advice: What a user can do, where that says more than the rule's own advice; else "".
        undoes_the_start: True if it speaks only for what was wrong in the first steps: new weights bring luck, too.
    """

    name: str
    families: tuple[str, ...]
    apply: Callable[[Patient, Sequence[Batch]], None]
    finish: Callable[[Patient, Sequence[Batch]], None] | None = None
    needs_symptom: bool = True
    undoes_the_start: bool = False
    is_structural: bool = True
    is_due: bool = False
    code: str | None = None
    key: str = ""
    advice: str = ""

    @property
    def identity(self) -> str:
        """What it is known by: its name, unless that holds a number that was measured."""
        return self.key or self.name


def remedies_for(patient: Patient, evidence: Evidence, diagnosis: Diagnosis, *, is_stuck: bool = False) -> list[Remedy]:
    """The treatments that the evidence suggests, the most specific first.

    Args:
        patient: What would be treated.
        evidence: What was seen of it.
        diagnosis: What the rules say about it.
        is_stuck: True if it learns nothing: squashing activations are suspected then without a symptom.
    """
    seen = {finding.family for finding in diagnosis.findings}
    found: list[Remedy] = []
    skip = Remedy("leave out steps that are not finite", ("nonfinite",), _skip_nonfinite, is_structural=False)
    given = {"input", "target", "the loss"}
    is_given = any(finding.code == "FL502" and finding.layer in given for finding in diagnosis.findings)
    found += [skip] if is_given else []
    codes = {finding.code for finding in diagnosis.findings}
    if "FL501" in codes:
        name = evidence.inputs.name if evidence.inputs is not None else ""
        found.append(_input_remedy(name))
    steers = evidence.optimizer
    if "FL505" in codes and evidence.targets is not None and (steers.is_scale_free or not steers.is_scheduled):
        degree = evidence.loss.degree if evidence.loss is not None else 2.0
        factor = 1.0 if steers.is_scale_free else evidence.targets.deviation**-degree
        found.append(_target_remedy(evidence.targets, factor))  # a schedule undoes rates
    if "FL602" in codes:
        found.append(Remedy("GroupNorm for BatchNorm", ("batchnorm",), _swap_norms, code="FL602"))
    if codes & {"FL601", "FL602"}:
        found.append(
            Remedy("BatchNorm statistics of all batches, momentum 0.1", ("batchnorm",), _mend_batchnorm, _reestimate)
        )
    if "FL603" in codes:
        found.append(Remedy("hold the statistics of frozen BatchNorms", ("batchnorm",), _hold_frozen, code="FL603"))
    clip = _clip_remedy(evidence, seen)
    has_outliers = evidence.outliers is not None
    found += [clip] if clip is not None and has_outliers else []
    activations = {layer.activation for layer in evidence.layers}
    swap = Remedy("Leaky ReLU for sigmoid and tanh, new weights", ("vanishing", "saturation"), _swap_squashers,
                  undoes_the_start=True, needs_symptom=not is_stuck)  # fmt: skip
    swaps = [swap] if activations & {"sigmoid", "tanh", "hardtanh"} else []
    if seen & set(_BY_WEIGHTS):
        weights = Remedy("new weights by the activation that follows", _BY_WEIGHTS, _initialise, undoes_the_start=True,
                         is_structural=False, advice=f"{DRAW_ALL}.")  # fmt: skip
        if "sigmoid" in activations and "saturation" not in seen:
            found += [*swaps, weights]  # a sigmoid passes on a quarter of the gradient at best, whatever the weights
        else:
            found += [weights, *swaps]
    elif is_stuck:
        found += swaps
    if seen & set(_BY_NORMS) and not any(layer.kind == "norm" for layer in evidence.layers):
        found.append(Remedy(BATCHNORM, _BY_NORMS, _normalise, undoes_the_start=True, advice=f"{INSERT_NORMS}."))
    if "dead_units" in seen:
        found.append(Remedy("Leaky ReLU for ReLU", ("dead_units",), _swap_rectifiers))
    found += [clip] if clip is not None and not has_outliers else []
    momentum = evidence.optimizer.momentum or 0.0
    if "oscillation" in seen and momentum > _MOMENTUM:
        found.append(Remedy(f"momentum {_MOMENTUM}", ("oscillation",), _lower_momentum, is_structural=False,
                            is_due=momentum > _LONG, advice=f"set the momentum to {_MOMENTUM}."))  # fmt: skip
    found += [skip] if "nonfinite" in seen and not is_given else []  # mostly comes of something else
    return found


def _input_remedy(name: str) -> Remedy:
    def standardise(patient: Patient, data: Sequence[Batch]) -> None:
        change = remedies.standardize_inputs(patient.model, data, name=name)
        if not change.layers:
            raise LookupError(change.notes[0])

    return Remedy("standardise the inputs", ("input_scale",), standardise, code="FL501")


def _target_remedy(facts: TargetFacts, factor: float) -> Remedy:
    """The last layer in the unit of the targets, with the learning rate times this factor."""
    name = f"answers in the unit of the targets: times {facts.deviation:.3g}, plus {facts.mean:.3g}"
    rate = "" if factor == 1 else f" and the learning rate divided by {1 / factor:.2g}"

    def scale(patient: Patient, data: Sequence[Batch]) -> None:
        change = remedies.rescale_outputs(patient.model, data, facts.mean, facts.deviation)
        if not change.layers:
            raise LookupError(change.notes[0])
        scale_rates(patient.optimizer, factor)

    call = target_scale.rescaling(facts.mean, facts.deviation)
    return Remedy(
        name, ("input_scale",), scale, code="FL505", key="targets",
        advice=f"standardise the targets, and scale predictions back; or {call}{rate}.",
    )  # fmt: skip


def scale_rates(optimizer: Optimizer, factor: float) -> None:
    """Multiply all learning rates, and those from which schedules start."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
        if "initial_lr" in group:
            group["initial_lr"] = group["initial_lr"] * factor


def is_clear(finding: Finding) -> bool:
    """True for an issue, and for a step size beyond its limit: less is asked of a trial that treats those."""
    if finding.measured is None or finding.limit is None:
        return finding.outcome == "issue"
    is_large = finding.code == "FL401" and finding.measured > finding.limit
    is_small = finding.code == "FL402" and finding.measured < learning_rate_low.CLEAR
    return finding.outcome == "issue" or is_large or is_small


def family_of(remedy: Remedy, stages: Sequence[Diagnosis]) -> str | None:
    """The family that a treatment that helped speaks for; None if its symptom was not seen.

    Args:
        remedy: The treatment.
        stages: Diagnoses of the first step, the first steps, the whole training: what was wrong first comes before
            what came of it, issues before tips.
    """
    for diagnosis in stages[:-1] if remedy.undoes_the_start else stages:
        for outcome in ("issue", "tip"):
            seen = {finding.family for finding in diagnosis.findings if finding.outcome == outcome}
            if "vanishing" in seen and not _is_dead_through(diagnosis):
                seen.discard("dead_units")
            for family in remedy.families:
                if family in seen:
                    return family
    return None if remedy.needs_symptom else remedy.families[0]


def _is_dead_through(diagnosis: Diagnosis) -> bool:
    """True if a layer lets nothing through. Where half of the units live, dead ones come of what vanishes before."""
    shares = [finding.measured or 0.0 for finding in diagnosis.findings if finding.code == "FL201"]
    return max(shares, default=0.0) > _DEAD


def _clip_remedy(evidence: Evidence, seen: set[str]) -> Remedy | None:
    norm = _usual_norm(evidence)
    if norm is None or not seen & {"gradient_spikes", "exploding", "nonfinite", "oscillation", "learning_rate"}:
        return None
    families = ("gradient_spikes", "exploding")
    if evidence.outliers is not None:
        share, name = evidence.outliers.share, "clip gradients at the usual one of their last norms"
        return Remedy(name, families, lambda patient, data: _clip(patient, _usual_clip(norm, share, data)),
                      is_structural=False, is_due=True, key="clip")  # fmt: skip
    clip = remedies.clip_by_norm(norm)
    return Remedy(f"clip gradients at {norm:.2g}, their usual norm", families, lambda patient, _: _clip(patient, clip),
                  is_structural=False, key="clip")  # fmt: skip


def _usual_clip(norm: float, share: float, data: Sequence[Batch]) -> Any:
    """At the median of the last norms of batches without rows that are far out: it shrinks as the network learns.

    Where nearly all batches have such rows, at a twentieth from below.
    """
    are_free = (1 - share) ** batch_size(data[0][0])
    clip = remedies.clip_by_percentile(50 * max(are_free, _FEWEST_FREE), window=_REMEMBERED, warmup=0)
    clip.load_state_dict({"num_calls": 0, "num_skipped": 0, "rule": {"norms": [norm] * _REMEMBERED, "seen": 0}})
    return clip


def _usual_norm(evidence: Evidence) -> float | None:
    """The median of the first norms; where rows stand far out, of the lower half: they bring large ones, and more."""
    norms = [
        r.gradient_norm for r in evidence.records if r.gradient_norm is not None and math.isfinite(r.gradient_norm)
    ]
    early = norms[: max(5, len(norms) // 3)]
    if evidence.outliers is not None:
        early = sorted(early)[: -(-len(early) // 2)]
    return max(median(early), 1e-8) if early else None


def _clip(patient: Patient, clip: Any) -> None:
    patient.clip = clip


def _skip_nonfinite(patient: Patient, _: Sequence[Batch]) -> None:
    patient.clip = patient.clip or remedies.clip_by_norm(1e30)


def _initialise(patient: Patient, data: Sequence[Batch]) -> None:
    remedies.initialize(patient.model, include_pretrained=True, batch=data[0], optimizer=patient.optimizer)


def _swap_squashers(patient: Patient, data: Sequence[Batch]) -> None:
    present = {type(module) for module in patient.model.modules()}
    for kind in present & {nn.Sigmoid, nn.Tanh, nn.Hardtanh}:
        remedies.swap_activations(patient.model, kind, nn.LeakyReLU, optimizer=patient.optimizer)
    _initialise(patient, data)


def _normalise(patient: Patient, data: Sequence[Batch]) -> None:
    remedies.insert_batchnorm(patient.model, data[:_FOR_STATISTICS], start="normalised", optimizer=patient.optimizer)


def _swap_rectifiers(patient: Patient, _: Sequence[Batch]) -> None:
    remedies.swap_activations(patient.model, nn.ReLU, nn.LeakyReLU, optimizer=patient.optimizer)


def _mend_batchnorm(patient: Patient, _: Sequence[Batch]) -> None:
    for module in patient.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not is_pinned(module):
            module.momentum = 0.1


def _swap_norms(patient: Patient, _: Sequence[Batch]) -> None:
    """One group of all channels, with the weights of the BatchNorm: its statistics are of one sample, never of few."""
    for parent in list(patient.model.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not is_pinned(module):
                made = nn.GroupNorm(1, module.num_features, eps=module.eps, affine=module.affine)
                if module.affine:
                    made.weight, made.bias = module.weight, module.bias
                own = next(iter((*module.parameters(), *module.buffers())), torch.empty(0))
                setattr(parent, name, made.to(own.device).train(module.training))


def _hold_frozen(patient: Patient, _: Sequence[Batch]) -> None:
    kinds = (nn.modules.batchnorm._BatchNorm,)
    norms = [module for module in patient.model.modules() if isinstance(module, kinds) and module.affine]
    freeze(patient.model, modules=[module for module in norms if not module.weight.requires_grad])


def _reestimate(patient: Patient, data: Sequence[Batch]) -> None:
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in patient.model.modules()):
        with suppress(DataError):  # values that are not finite: the score says so
            remedies.reestimate_batchnorm(patient.model, data)


def _lower_momentum(patient: Patient, _: Sequence[Batch]) -> None:
    for group in patient.optimizer.param_groups:
        group["momentum"] = min(group.get("momentum", 0.0), _MOMENTUM)
