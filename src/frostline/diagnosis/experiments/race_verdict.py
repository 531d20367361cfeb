"""The verdict of a race: whether a treated network beats the untreated one, by the scores at the marks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from frostline.diagnosis.experiments.examination import is_skilled
from frostline.diagnosis.experiments.schedule import AHEAD, FEWEST_STEPS
from frostline.diagnosis.experiments.treatments import BATCHNORM
from frostline.diagnosis.experiments.verdict import (
    TIMES,
    falls,
    has_lost,
    leads,
    leads_a_little,
    leads_at_last,
    leads_by_far,
    leads_clearly,
    leads_steadily,
)
from frostline.diagnosis.rules.limits import LEARNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.examination import Suspicion
    from frostline.diagnosis.experiments.runner import Runner
    from frostline.diagnosis.experiments.schedule import Schedule
    from frostline.diagnosis.experiments.score import Score
    from frostline.diagnosis.experiments.untreated import Untreated

_EARLY = 2  # marks, up to which a loss above the first one wins nothing: it may be on its way up
_LEVEL = 0.05  # of the loss: so much above it counts as no worse


class RaceVerdict:
    """Compares treated networks with the untreated one, which is trained on where a later score is needed.

    Args:
        untreated: The network without treatment.
        schedule: Of the race.
        runners: All treated networks of the race; the list grows while it is on.
    """

    def __init__(self, untreated: Untreated, schedule: Schedule, runners: Sequence[Runner]) -> None:
        self._untreated, self._schedule, self._runners = untreated, schedule, runners

    @property
    def first_loss(self) -> float:
        """The lowest loss of a first step."""
        return min([self._untreated.seen.seen.first_loss, *(one.first_loss for one in self._runners)])

    def learns(self, score: Score, least: float = LEARNS) -> bool:
        """True if a network with this score answers better than the constant-prediction baseline."""
        return is_skilled(score, self.first_loss, least)

    def has_symptom(self, suspicion: Suspicion) -> bool:
        """True if a rule has found what it treats, when it entered or since; of rates, if nothing is learnt too."""
        if suspicion.family == "learning_rate" and self._untreated.seen.is_stuck:
            return True
        code, findings = suspicion.remedy.code, self._untreated.seen.diagnosis.findings
        return suspicion.has_symptom or any(
            one.code == code if code else one.family == suspicion.family for one in findings
        )

    def is_proven(self, one: Runner) -> bool:
        """True if it has taken enough steps to prove anything."""
        return self._schedule.taken(one.steps) >= FEWEST_STEPS

    def has_lost(self, one: Runner) -> bool:
        """True if it is out: not clearly better than the untreated network after as many steps."""
        other = self._untreated.runner.scores[one.steps]
        if self._schedule.has_time(one):
            return False
        learns = self.learns(other)
        marks = 1 if not learns and not self.learns(one.score) else self._schedule.num_marks(one.steps)
        return has_lost(one.score, other, marks=marks, learns=learns)

    def is_ahead(self, one: Runner, suspicion: Suspicion) -> bool:
        """True if the scores say so, after as many steps and after twice as many of the untreated network."""
        own, other, seen = one.score, self._untreated.runner.scores[one.steps], self._untreated.seen
        if not math.isfinite(other.loss):
            return math.isfinite(own.loss) and self.learns(own)
        taken = self._schedule.taken(one.steps)
        is_issue = suspicion.is_issue or suspicion.family in seen.issues
        is_idle = not self.learns(other)
        if is_idle and is_issue and suspicion.family == "input_scale" and taken > self._schedule.leg:
            return own.loss <= other.loss  # who learns nothing with inputs in another unit has nothing to lose
        if own.loss > self.first_loss and self._schedule.num_marks(one.steps) <= _EARLY:
            return False
        if is_idle and not self.learns(own, least=0.0):
            return False  # a loss far below that of a network that blew up may still be far above that of none
        is_better = leads(own, other, is_issue=is_issue, has_symptom=suspicion.has_symptom, learns=not is_idle)
        if is_idle and (is_better or is_issue) and suspicion.has_symptom and leads_by_far(own, other):
            return True
        later = self._schedule.twice(one.steps)
        if self._schedule.taken(later) < AHEAD * taken or not (is_better or (is_issue and leads_a_little(own, other))):
            return False
        return self._stays_ahead(one, suspicion, later, is_better=is_better, is_issue=is_issue)

    def _stays_ahead(self, one: Runner, suspicion: Suspicion, later: int, *, is_better: bool, is_issue: bool) -> bool:
        last = self._untreated.bring(later)
        learns = self.learns(last)
        if learns and not suspicion.has_symptom:
            return False  # it was slow at first, and learns
        if is_better and leads(one.score, last, is_issue=is_issue, has_symptom=suspicion.has_symptom, learns=learns):
            return True
        others = self._untreated.runner.scores
        twice = [(at, self._schedule.start + 2 * self._schedule.taken(at)) for at in one.scores]
        return is_issue and leads_steadily([(one.scores[at], others[then]) for at, then in twice if then in others])

    def is_ahead_at_last(self, one: Runner) -> bool:
        """True if it leads when the race is over, and still does against the untreated one after half as many again.

        Where the batches end before that, it must have led at several marks.
        """
        suspicion = one.suspicion
        if suspicion is None or not self.is_proven(one) or not self.has_symptom(suspicion):
            return False
        if suspicion.remedy.identity == BATCHNORM and not suspicion.is_issue:
            return False  # it is ahead in most healthy networks as well
        later = self._schedule.half_as_many_again(one.steps)
        marks = [one.steps] if later <= self._schedule.end else list(one.scores)[-TIMES:]
        pairs = [(one.scores[mark], self._untreated.runner.scores[mark]) for mark in marks]
        if not all(leads_clearly(own, other) for own, other in pairs[:-1]):
            return False
        own, other = pairs[-1]
        if not leads_at_last(own, other, learns=self.learns(other)):
            return False
        last = self._untreated.bring(min(later, self._schedule.end))
        return falls(one.score, last, -_LEVEL) and one.score.share >= last.share

    def issues_left(self, one: Runner, suspicion: Suspicion) -> list[str]:
        """Codes of the issues that count against it: the treated issue is still there, or another one has appeared.

        Beside a network that learns nothing, one that learns in spite of another issue is worth keeping.
        """
        learns = self.learns(self._untreated.runner.score)
        findings = self._untreated.seen.diagnosis.findings
        known = {finding.code for finding in findings if finding.outcome == "issue"}
        treated = {finding.code for finding in findings if finding.family == suspicion.family}
        return [code for code in one.issues if code in treated or (learns and code not in known)]
