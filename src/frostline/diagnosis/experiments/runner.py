"""Who runs in a race: one copy of the network, with a treatment or without."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.diagnosis.experiments.score import Score
from frostline.diagnosis.experiments.trial import Patient, train
from frostline.diagnosis.monitor.monitor import Monitor
from frostline.diagnosis.rules.judge import judge
from frostline.remedies import clip_by_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from torch import Tensor
    from torch.optim import Optimizer

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.examination import Suspicion
    from frostline.diagnosis.rules.records import Evidence

_NO_LIMIT = 1e30  # a clip at it does nothing but leave out steps that are not finite


@dataclass
class Runner:
    """One way to train: untreated, or with a treatment.

    Attributes:
        patient: Where the training stands; the one it started from, if it is out.
        suspicion: What is treated, and how; None without.
        steps: Taken so far.
        scores: Held-out, by steps taken.
        num_skipped: Steps left out because something was not finite.
        issues: Codes of the issues that were left when it was ahead.
        failure: Why it is out, or "".
        given: The batches by which it was treated.
        seen: What the rules said when it was treated; None without.
        first_loss: Of its first step; infinite before that.
    """

    patient: Patient
    suspicion: Suspicion | None = None
    steps: int = 0
    scores: dict[int, Score] = field(default_factory=dict[int, Score])
    num_skipped: int = 0
    issues: tuple[str, ...] = ()
    failure: str = ""
    given: Sequence[Batch] = ()
    seen: Diagnosis | None = None
    first_loss: float = math.inf

    @property
    def is_due(self) -> bool:
        """True if measurements before the training suggest its treatment."""
        return self.suspicion is not None and self.suspicion.remedy.is_due

    @property
    def score(self) -> Score:
        """The last."""
        return next(reversed(self.scores.values()), Score(0.0, math.nan))

    @property
    def loss(self) -> float:
        """The last held-out loss; infinite where it is not finite."""
        return loss_of(self.score)


def shifted(evidence: Evidence, steps: int) -> Evidence:
    """The same, of a training that had taken so many steps."""
    outliers = evidence.outliers
    return replace(
        evidence,
        records=tuple(replace(record, step=record.step + steps) for record in evidence.records),
        losses=tuple((step + steps, loss) for step, loss in evidence.losses),
        outliers=replace(outliers, step=outliers.step + steps) if outliers is not None else None,
    )


def watched(
    one: Runner, part: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *, samples: int,
    families: AbstractSet[str],
) -> Diagnosis:  # fmt: skip
    """Train on; what the rules say about it, where these families have been treated."""
    own, every = one.patient, max(1, -(-len(part) // samples))
    with Monitor(own.model, own.optimizer, every=every, budget=math.inf) as monitor:
        seen = train(own, part, loss_fn, monitor=monitor, seed=one.steps, measures=False, skips_nonfinite=True)
    one.num_skipped += seen.num_skipped
    evidence = shifted(monitor.evidence, one.steps)
    one.steps += len(part)
    if "input_scale" in families:
        evidence = replace(evidence, inputs=None)  # what the monitor saw comes before the layer that scales it
    return judge(evidence)


def loss_of(score: Score) -> float:
    """Infinite where it is not finite."""
    return score.loss if math.isfinite(score.loss) else math.inf


def suspicions_of(winners: Iterable[Runner]) -> list[Suspicion]:
    """What they were treated for."""
    return [one.suspicion for one in winners if one.suspicion is not None]


def families_of(kept: Sequence[Runner]) -> set[str]:
    """The families of these."""
    return {one.family for one in suspicions_of(kept)}


def take_over(own: Patient, best: Runner, kept: Sequence[Runner], *, skips: bool = False) -> None:
    """Give the caller's own model and optimizer what the chosen copy has become.

    Args:
        own: The caller's.
        best: The copy.
        kept: Those whose treatments were kept.
        skips: True leaves out steps that are not finite from now on, as was done on the way.
    """
    for one in kept:
        for part in one.suspicion.parts if one.suspicion is not None else ():
            if part.remedy.is_structural:
                part.remedy.apply(own, one.given)
    model = best.patient.model
    trained = dict([*model.named_parameters(), *model.named_buffers()])
    with torch.no_grad():
        for name, value in [*own.model.named_parameters(), *own.model.named_buffers()]:
            value.copy_(trained[name])
    own.optimizer.load_state_dict(best.patient.optimizer.state_dict())
    clip = best.patient.clip or (clip_by_norm(_NO_LIMIT) if skips else None)
    if clip is not None:

        def limit(one: Optimizer, *_: object) -> None:  # what a hook returns would replace the arguments of the step
            clip([parameter for group in one.param_groups for parameter in group["params"]])

        own.optimizer.register_step_pre_hook(limit)
