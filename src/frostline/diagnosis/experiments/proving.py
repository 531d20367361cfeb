"""When a trial counts, when it is proven, and which of those that helped is the cause."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from frostline.diagnosis.experiments.batches import held_out
from frostline.diagnosis.experiments.score import score
from frostline.diagnosis.experiments.treatments import BATCHNORM
from frostline.diagnosis.experiments.trial import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.examination import Examination, Suspicion, Trial
    from frostline.diagnosis.experiments.score import Score

# What is asked of a treatment: the gain in share of right answers (or of explained variance), and the standard errors
# that it must be away from zero, in the trial and over all trials together. Of the exam's healthy networks 3 in 100
# have a clear symptom, half have a tip, and another learning rate helps a little nearly everywhere: the weaker the
# evidence, the more is asked. Tuned on the exam's tuning part.
_OF_CLEAR, _OF_TIPS, _OF_NONE = (0.02, 0.0, 1.5), (0.07, 1.6, 2.5), (0.12, 2.0, 3.0)
_OF_LATE = (0.05, 0.0, 2.0)  # what came while training may be how a healthy network has learnt: units that it needs not
_LOSSES = 3.0  # times as much of a loss, of which a faster training saves a third soon
_NEARLY_BEST = 0.75  # of the largest gain: the most specific of those is the cause
_OF_THE_SLOW = 1.1  # of the loss of a network that hardly moves
_HALF = 0.5  # of what BatchNorm gains, which helps against most things, and healthy networks as well
_OF_STEPS = frozenset({"learning_rate", "oscillation"})
_FOLDS = 4  # times that a treatment is tried, on other held-out samples, where two tries leave it open


@dataclass(frozen=True)
class Proof:
    """A treatment that helped, and helped again.

    Attributes:
        trial: The first of its trials.
        before: The score without it, of the first trial.
        gain: Mean over the trials.
        tries: How many there were.
        demand: The gain that was asked for.
    """

    trial: Trial
    before: Score
    gain: float
    tries: int
    demand: float

    def __str__(self) -> str:
        before, after = self.before, self.trial.score
        why = f"the score on held-out samples goes from {before.share:.0%} to {after.share:.0%}"
        if before.is_of_loss:
            why = f"the loss on held-out samples goes from {before.loss:.3g} to {after.loss:.3g}"
        if self.tries == 1:
            return f"{why}."
        unit = "%" if before.is_of_loss else "points"
        return f"{why}; in {self.tries} trials on other samples, by {100 * self.gain:.0f} {unit} on average."


def counts(trial: Trial) -> bool:
    """True if the network is clearly better with it, in answers and in loss.

    Who has hardly moved is not sure of anything, and may lose by a little what it gains in answers.
    """
    gain, errors, _ = _demand(trial)
    asked = 0.0 if trial.suspicion.is_clear else gain  # the second trial has the word
    ratio = _OF_THE_SLOW if trial.suspicion.remedy.code == "FL402" and trial.suspicion.is_clear else 1.0
    return trial.gain > max(asked, errors * trial.error) and trial.loss_ratio < ratio


def prove(seen: Examination, tried: Sequence[Trial], whole: Sequence[Batch]) -> Proof | None:
    """The most specific treatment that helps nearly as much as the best, on other samples in another order as well.

    Args:
        seen: What all first trials share.
        tried: The first trials.
        whole: All batches; every fold of them holds out other samples.
    """
    left = [trial for trial in tried if counts(trial)]
    if not math.isfinite(seen.seen.first_loss):  # no step was taken before
        left = [trial for trial in left if trial.suspicion.family not in {*_OF_STEPS, "gradient_spikes"}]
    folds = _Folds(seen, whole)
    while left:
        trial = _most_specific(left)
        if math.isnan(seen.seen.score.loss):
            return Proof(trial, seen.seen.score, trial.gain, 1, 0.0)  # from nothing to something: no luck
        proof = _repeat(trial, folds, _demand_of(trial, tried))
        if proof is not None:
            return proof
        left.remove(trial)
    return None


class _Folds:
    """The same start, trained on other samples in another order with other noise; made when asked for."""

    def __init__(self, seen: Examination, whole: Sequence[Batch]) -> None:
        self._first, self._whole = seen, whole
        self._made: dict[int, Examination] = {0: seen}

    @property
    def before(self) -> Score:
        """The score without treatment, the first time."""
        return self._first.seen.score

    def attempt(self, fold: int, suspicion: Suspicion) -> Trial:
        if fold not in self._made:
            seen = self._first
            again, judged = held_out(self._in_order(fold), fold=fold)
            twin = seen.patient.copy()
            train(twin, again, seen.loss_fn, seed=fold, measures=False)
            base = score(twin.model, judged, seen.loss_fn)
            self._made[fold] = replace(seen, data=again, judged=judged, seen=replace(seen.seen, score=base), seed=fold)
        return self._made[fold].attempt(suspicion)

    def _in_order(self, fold: int) -> list[Batch]:
        """Backwards, then begun elsewhere: another fifth comes last each time."""
        cut = fold * max(1, len(self._whole) // 5)
        return list(reversed(self._whole)) if fold == 1 else [*self._whole[cut:], *self._whole[:cut]]


def _repeat(first: Trial, folds: _Folds, demand: tuple[float, float, float]) -> Proof | None:
    """Try again on other samples, until it is clear whether it helps."""
    asked, _, errors = demand
    trials = [first]
    for fold in range(1, _FOLDS):
        trials.append(folds.attempt(fold, first.suspicion))
        gain = sum(trial.gain for trial in trials) / len(trials)
        error = math.sqrt(sum(trial.error**2 for trial in trials)) / len(trials)
        is_steady = trials[-1].gain > (0 if len(trials) == 2 else -trials[-1].error)
        if gain >= asked and gain > errors * error and is_steady:
            return Proof(first, folds.before, gain, len(trials), asked)
        if gain + error < asked:
            return None
    return None


def _demand(trial: Trial) -> tuple[float, float, float]:
    """(gain, standard errors, standard errors over all trials) that are asked of a treatment."""
    asked = _OF_LATE if trial.suspicion.is_late else _OF_CLEAR
    if not trial.suspicion.is_clear:
        asked = _OF_TIPS if trial.suspicion.has_symptom else _OF_NONE
    return (_LOSSES * asked[0], *asked[1:]) if trial.score.is_of_loss else asked


def _demand_of(trial: Trial, tried: Sequence[Trial]) -> tuple[float, float, float]:
    """The same; more if BatchNorm is all that helps, unless gradients vanish: that is what it is for."""
    if trial.suspicion.remedy.identity != BATCHNORM or trial.suspicion.family == "vanishing":
        return _demand(trial)
    family = [other for other in tried if other.suspicion.family == trial.suspicion.family and other is not trial]
    is_alone = not any(counts(other) and other.gain >= _HALF * trial.gain for other in family)
    return _OF_NONE if is_alone else _demand(trial)


def _most_specific(helped: Sequence[Trial]) -> Trial:
    """Of the treatments that helped nearly as much as the best: the first, which is the most specific."""
    best = max(trial.gain for trial in helped)
    own = [trial for trial in helped if trial.suspicion.remedy.identity != BATCHNORM and trial.gain >= _HALF * best]
    if not own:
        return max(helped, key=lambda trial: trial.gain)
    best = max(trial.gain for trial in own)
    near = [trial for trial in own if trial.gain >= _NEARLY_BEST * best]
    inputs = [trial for trial in near if trial.suspicion.family == "input_scale"]
    if inputs and inputs[0].gain + inputs[0].error >= best:  # inputs come first, and bring other symptoms
        return inputs[0]
    if inputs:
        return max(near, key=lambda trial: trial.gain)
    steps = [trial for trial in near if trial.suspicion.family in _OF_STEPS and trial.is_calm]
    likely = [trial for trial in helped if trial.gain >= _NEARLY_BEST * best]
    early = [trial for trial in likely if not trial.suspicion.is_late and trial.suspicion.family not in _OF_STEPS]
    if near[0].suspicion.is_late and (steps or early):  # what came while training came of the steps or of the start
        return max(steps + early, key=lambda trial: trial.gain)
    return near[0]
