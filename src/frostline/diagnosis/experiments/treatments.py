"""Treatments: one factor each, undone in place. What `checkup` tries on copies and `heal` keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from frostline import remedies
from frostline.diagnosis.experiments.actions import (
    MOMENTUM,
    clip_usual,
    clip_with,
    hold_frozen,
    initialise,
    leave_out_decay,
    leave_out_dropout,
    lower_momentum,
    mend_batchnorm,
    normalise,
    reestimate,
    scale_rates,
    skip_nonfinite,
    swap_norms,
    swap_rectifiers,
    swap_squashers,
)
from frostline.diagnosis.rules import target_scale
from frostline.diagnosis.rules.advice import DRAW_ALL, INSERT_NORMS
from frostline.diagnosis.rules.limits import SMALL_STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.core.records import Diagnosis, Finding
    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.trial import Patient
    from frostline.diagnosis.rules.records import Evidence

_DEAD = 0.9  # of the units of a layer
BATCHNORM = "BatchNorm before the activations"  # helps against most things
_BY_NORMS = ("exploding", "dead_units", "vanishing")
_SQUASHERS = frozenset({"sigmoid", "tanh", "hardtanh"})
_LONG = 0.97  # a momentum that averages over more than thirty steps
# What new weights can cure: the symptom tells which of them it was.
_BY_WEIGHTS = ("symmetry", "saturation", "exploding", "dead_units", "vanishing", "initialization")


@dataclass(frozen=True)
class Remedy:
    """One factor that can be undone.

    Attributes:
        name: What is done, in words.
        families: The sicknesses that it treats, likeliest first.
        apply: Changes a patient in place, given the batches it trains on.
        finish: What is left to do after training, or None.
        needs_symptom: True if it counts for a family only where a rule has found that family's symptom.
        key: What it is known by, where its name holds a number that was measured.
        is_due: True if measurements before the training suggest it as strongly as an issue would.
        code: Of the one rule that it proves right, where its family has several that contradict each other.
        is_structural: False if weights and the optimizer's state are all that it changes.
        advice: What a user can do, where that is more specific than the rule's own advice; else "".
        undoes_the_start: True if it counts only for faults of the first steps: new weights may help by chance.
        rate: By what learning rates are multiplied; 1 where they are left alone.
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
    rate: float = 1.0

    @property
    def identity(self) -> str:
        """What it is known by: its name, unless that holds a number that was measured."""
        return self.key or self.name


@dataclass(frozen=True)
class _Case:
    """What treatments are chosen by.

    Attributes:
        evidence: What was seen of the training.
        found: Codes and families of all findings.
        is_in_data: True if values that are not finite came with the data or the loss, and not of the training.
        is_stuck: True if the network learns nothing.
    """

    evidence: Evidence
    found: frozenset[str]
    is_in_data: bool
    is_stuck: bool

    @property
    def activations(self) -> set[str]:
        return {layer.activation for layer in self.evidence.layers}

    @property
    def has_rows_far_out(self) -> bool:
        return self.evidence.outliers is not None

    @property
    def has_norms(self) -> bool:
        return any(layer.kind == "norm" for layer in self.evidence.layers)

    @property
    def momentum(self) -> float:
        return self.evidence.optimizer.momentum or 0.0

    @property
    def has_steady_rate(self) -> bool:
        """True if a rate that is scaled once stays scaled: a schedule would undo it."""
        optimizer = self.evidence.optimizer
        return optimizer.is_scale_free or not optimizer.is_scheduled

    @property
    def has_squashers(self) -> bool:
        return bool(self.activations & _SQUASHERS) and (self.is_stuck or bool(self.found & set(_BY_WEIGHTS)))

    @property
    def is_for_squashers_first(self) -> bool:
        """A sigmoid passes on a quarter of the gradient at best, whatever the weights."""
        return "sigmoid" in self.activations and "saturation" not in self.found


@dataclass(frozen=True)
class _Row:
    """A treatment of the table.

    Attributes:
        found: Codes or families, one of which must have been found; empty: `when` alone decides.
        when: What else must hold.
        how: Makes the treatment; None where what was measured allows none.
    """

    found: frozenset[str]
    how: Callable[[_Case], Remedy | None]
    when: Callable[[_Case], bool] = lambda _: True


def remedies_for(evidence: Evidence, diagnosis: Diagnosis, *, is_stuck: bool = False) -> list[Remedy]:
    """The treatments that the evidence suggests, in the order of the table: the most specific first.

    Args:
        evidence: What was seen of the training.
        diagnosis: What the rules say about it.
        is_stuck: True if it learns nothing: squashing activations are suspected then without a symptom.
    """
    found = frozenset(name for finding in diagnosis.findings for name in (finding.code, finding.family))
    given = {"input", "target", "the loss"}
    is_in_data = any(finding.code == "FL502" and finding.layer in given for finding in diagnosis.findings)
    case = _Case(evidence, found, is_in_data, is_stuck)
    rows = (row for row in _TABLE if (not row.found or row.found & found) and row.when(case))
    return [remedy for row in rows if (remedy := row.how(case)) is not None]


def _skip_remedy(_: _Case) -> Remedy:
    return Remedy("leave out steps that are not finite", ("nonfinite",), skip_nonfinite, is_structural=False)


def _squasher_remedy(case: _Case) -> Remedy:
    return Remedy("Leaky ReLU for sigmoid and tanh, new weights", ("vanishing", "saturation"), swap_squashers,
                  undoes_the_start=True, needs_symptom=not case.is_stuck)  # fmt: skip


def _input_remedy(case: _Case) -> Remedy:
    name = case.evidence.inputs.name if case.evidence.inputs is not None else ""

    def standardise(patient: Patient, data: Sequence[Batch]) -> None:
        change = remedies.standardize_inputs(patient.model, data, name=name)
        if not change.layers:
            raise LookupError(change.notes[0])

    return Remedy("standardise the inputs", ("input_scale",), standardise, code="FL501")


def _target_remedy(case: _Case) -> Remedy | None:
    """The last layer in the unit of the targets, with a learning rate that fits."""
    facts, loss = case.evidence.targets, case.evidence.loss
    if facts is None:
        return None
    degree = loss.degree if loss is not None else 2.0
    factor = 1.0 if case.evidence.optimizer.is_scale_free else facts.deviation**-degree
    name = f"outputs in the unit of the targets: times {facts.deviation:.3g}, plus {facts.mean:.3g}"
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


def is_clear(finding: Finding) -> bool:
    """True for an issue, and for a step size beyond its limit: a trial that treats those needs less gain."""
    if finding.measured is None or finding.limit is None:
        return finding.outcome == "issue"
    is_large = finding.code == "FL401" and finding.measured > finding.limit
    is_small = finding.code == "FL402" and finding.measured < SMALL_STEP
    return finding.outcome == "issue" or is_large or is_small


def family_of(remedy: Remedy, stages: Sequence[Diagnosis]) -> str | None:
    """The family whose cause a treatment that helped shows; None if its symptom was not seen.

    Args:
        remedy: The treatment.
        stages: Diagnoses of the first step, the first steps, the whole training: what was wrong first comes before
            what came of it, issues before tips.
    """
    for diagnosis in stages[:-1] if remedy.undoes_the_start else stages:
        for outcome in ("issue", "tip"):
            seen = {finding.family for finding in diagnosis.findings if finding.outcome == outcome}
            is_of_others = "vanishing" in seen or _starts_large(diagnosis)
            if is_of_others and not _is_dead_through(diagnosis):
                seen.discard("dead_units")
            for family in remedy.families:
                if family in seen:
                    return family
    return None if remedy.needs_symptom else remedy.families[0]


def _starts_large(diagnosis: Diagnosis) -> bool:
    """True if weights are so large that outputs are, before anything is learnt: units die of that."""
    return any(one.code == "FL302" and (one.measured or 0.0) > 1.0 for one in diagnosis.findings)


def _is_dead_through(diagnosis: Diagnosis) -> bool:
    """True if a layer lets nothing through. Where half of the units live, dead ones come of what vanishes before."""
    shares = [finding.measured or 0.0 for finding in diagnosis.findings if finding.code == "FL201"]
    return max(shares, default=0.0) > _DEAD


def _clip_remedy(case: _Case) -> Remedy | None:
    evidence = case.evidence
    norm = _usual_norm(evidence)
    if norm is None:
        return None
    families = ("gradient_spikes", "exploding")
    if evidence.outliers is not None:
        share, name = evidence.outliers.share, "clip gradients at the usual one of their last norms"
        return Remedy(name, families, lambda patient, data: clip_usual(patient, data, norm, share),
                      is_structural=False, is_due=True, key="clip")  # fmt: skip
    rule = remedies.clip_by_norm(norm)
    return Remedy(f"clip gradients at {norm:.2g}, their usual norm", families,
                  lambda patient, _: clip_with(patient, rule), is_structural=False, key="clip")  # fmt: skip


def _usual_norm(evidence: Evidence) -> float | None:
    """The median of the first norms; where rows stand far out, of the lower half: they bring large ones, and more."""
    norms = [
        r.gradient_norm for r in evidence.records if r.gradient_norm is not None and math.isfinite(r.gradient_norm)
    ]
    early = norms[: max(5, len(norms) // 3)]
    if evidence.outliers is not None:
        early = sorted(early)[: -(-len(early) // 2)]
    return max(median(early), 1e-8) if early else None


def _row(*found: str, how: Callable[[_Case], Remedy | None], when: Callable[[_Case], bool] = lambda _: True) -> _Row:
    return _Row(frozenset(found), how, when)


_CLIPPED = ("gradient_spikes", "exploding", "nonfinite", "oscillation", "learning_rate")
# All treatments but learning rates (`learning_rates.py`), in the order in which they are tried.
_TABLE = (
    _row("nonfinite", how=_skip_remedy, when=lambda case: case.is_in_data),
    _row("FL501", how=_input_remedy),
    _row("FL505", how=_target_remedy, when=lambda case: case.has_steady_rate),
    _row("FL602", how=lambda _: Remedy("GroupNorm for BatchNorm", ("batchnorm",), swap_norms, code="FL602")),
    _row("FL601", "FL602", how=lambda _: Remedy("BatchNorm statistics of all batches, momentum 0.1",
                                                ("batchnorm",), mend_batchnorm, reestimate)),
    _row("FL603", how=lambda _: Remedy("hold the statistics of frozen BatchNorms", ("batchnorm",), hold_frozen,
                                       code="FL603")),
    _row(*_CLIPPED, how=_clip_remedy, when=lambda case: case.has_rows_far_out),
    _row(how=_squasher_remedy, when=lambda case: case.has_squashers and case.is_for_squashers_first),
    _row("FL409", how=lambda _: Remedy("no weight decay", ("weight_decay",), leave_out_decay, is_structural=False)),
    _row("FL410", how=lambda _: Remedy("no dropout", ("dropout",), leave_out_dropout)),
    _row(*_BY_WEIGHTS, how=lambda _: Remedy(
        "new weights by the activation that follows", _BY_WEIGHTS, initialise, undoes_the_start=True,
        is_structural=False, advice=f"{DRAW_ALL}.")),
    _row(how=_squasher_remedy, when=lambda case: case.has_squashers and not case.is_for_squashers_first),
    _row(*_BY_NORMS, when=lambda case: not case.has_norms, how=lambda _: Remedy(
        BATCHNORM, _BY_NORMS, normalise, undoes_the_start=True, advice=f"{INSERT_NORMS}.")),
    _row("dead_units", how=lambda _: Remedy("Leaky ReLU for ReLU", ("dead_units",), swap_rectifiers)),
    _row(*_CLIPPED, how=_clip_remedy, when=lambda case: not case.has_rows_far_out),  # most of these have a cause
    _row("oscillation", when=lambda case: case.momentum > MOMENTUM, how=lambda case: Remedy(
        f"momentum {MOMENTUM}", ("oscillation",), lower_momentum, is_structural=False,
        is_due=case.momentum > _LONG, advice=f"set the momentum to {MOMENTUM}.")),
    _row("nonfinite", how=_skip_remedy, when=lambda case: not case.is_in_data),  # mostly comes of something else
)  # fmt: skip
