"""The untreated network of a race: trained under an observer, and trained on when a score of it is needed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.diagnosis.experiments.examination import Examination, judge_start
from frostline.diagnosis.experiments.observer import (
    Observation,
    Observer,
    trainable_weights,
    with_certain_evidence,
)
from frostline.diagnosis.experiments.runner import Runner, shifted
from frostline.diagnosis.experiments.score import Score, score
from frostline.diagnosis.probes.classes import facts_of_classes
from frostline.diagnosis.rules.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.schedule import Schedule
    from frostline.diagnosis.experiments.trial import Patient

_EVERY = 4  # steps from one look at all layers to the next


class Untreated:
    """One network without treatment; a context, in which it can be trained.

    Args:
        patient: As it came; a copy of it is trained.
        data: All batches of the training.
        judged: What it is compared by.
        loss_fn: callable(output, target) -> scalar.
        schedule: Of the race.
        families: What it has been treated for already.

    Attributes:
        runner: The network, and its scores at all marks so far.
        seen: What was seen of it so far.
    """

    seen: Examination

    def __init__(
        self, patient: Patient, data: Sequence[Batch], judged: Sequence[Batch],
        loss_fn: Callable[[Any, Any], Tensor], schedule: Schedule, families: set[str],
    ) -> None:  # fmt: skip
        self._patient, self._data, self._judged, self._loss_fn = patient, data, judged, loss_fn
        self._schedule, self._families = schedule, families
        start = schedule.start
        self.runner = Runner(patient.copy(), steps=start)
        self._weights = trainable_weights(self.runner.patient.model)
        self._observer = Observer(
            self.runner.patient, data[start:], loss_fn, every=_EVERY, seed=start, skips_inputs=True
        )
        self._at_first: Diagnosis | None = None

    def __enter__(self) -> Untreated:
        self._observer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._observer.__exit__(*error)

    def forget(self) -> None:
        """Let go of the copy that is trained; scores and what was seen stay."""
        del self._observer, self._weights

    @property
    def is_whole(self) -> bool:
        """True if its held-out loss is finite."""
        return math.isfinite(self.runner.loss)

    def bring(self, mark: int) -> Score:
        """Train it on to this mark, unless it was there; its score after so many steps."""
        if self.runner.steps < mark:
            self._train(mark)
        return self.runner.scores[mark]

    def _train(self, mark: int) -> None:
        start = self._schedule.start
        for at in self._schedule.parts(self.runner.steps, mark):
            self._observer.train(at - start)
            self.runner.steps = at
            self.runner.scores[at] = score(self.runner.patient.model, self._judged, self._loss_fn, compares=True)
        self.runner.num_skipped = self._observer.num_skipped
        evidence = shifted(self._observer.evidence, start)
        if "input_scale" in self._families:
            evidence = replace(evidence, inputs=None)
        if self._at_first is None:
            self._at_first = judge_start(evidence)
            part = self._data[start:mark]
            evidence = replace(evidence, classes=facts_of_classes(self._data))  # of all: a part may hold one class
            evidence = with_certain_evidence(evidence, self.runner.patient, self._weights, part, self._loss_fn)
        self.seen = Examination(
            self._patient, self._data[start:mark], self._judged, self._loss_fn,
            Observation(evidence, self.runner.score), judge(evidence), self._at_first,
        )  # fmt: skip
