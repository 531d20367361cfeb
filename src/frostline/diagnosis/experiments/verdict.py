"""Verdicts on experiments: when a treatment counts as an improvement, and which of several is the cause.

`heal` compares a treated network with the untreated one while both train (`leads`, `has_lost`). `checkup` tries every
treatment once on the same batches (`counts`) and repeats the best on other samples (`prove`). All thresholds were
tuned on the tuning part of the exam (`exams/health`, docs/exam.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from frostline.diagnosis.experiments.batches import held_out
from frostline.diagnosis.experiments.retrained import twice_the_steps
from frostline.diagnosis.experiments.score import score
from frostline.diagnosis.experiments.treatments import BATCHNORM
from frostline.diagnosis.experiments.trial import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.examination import Examination, Suspicion, Trial
    from frostline.diagnosis.experiments.score import Score


@dataclass(frozen=True)
class Criterion:
    """What held-out scores must show before a treatment counts as an improvement.

    Attributes:
        max_loss_ratio: The largest loss with the treatment over the loss without it.
        min_gain: The smallest gain in the share of correct outputs, or in the explained variance.
        min_sigma: By how many of its standard errors the gain must exceed zero, in one experiment.
        min_sigma_of_mean: The same for the mean of repeated experiments.
    """

    max_loss_ratio: float
    min_gain: float
    min_sigma: float
    min_sigma_of_mean: float = 0.0


# In a race (`heal`): a treatment of an issue in a network that learns nothing; of a tip there, or of an issue in a
# network that learns; of anything weaker.
_RACE_ISSUE, _RACE_TIP, _RACE_DOUBT = Criterion(0.97, 0.0, 0.0), Criterion(0.96, 0.04, 2.0), Criterion(0.9, 0.08, 2.0)
# In single trials (`checkup`). Of the exam's healthy networks 3 in 100 have a clear symptom, half have a tip, and
# another learning rate helps a little in nearly all of them: the weaker the evidence, the more is required.
_TRIAL_CLEAR, _TRIAL_TIP, _TRIAL_NONE = (
    Criterion(1.0, 0.02, 0.0, 1.5), Criterion(1.0, 0.07, 1.6, 2.5), Criterion(1.0, 0.12, 2.0, 3.0),
)  # fmt: skip
# A symptom that began during training may be how a healthy network learns, such as units that it does not need.
_TRIAL_LATE = Criterion(1.0, 0.05, 0.0, 2.0)
# The loss over that without: lower by far; clearly, so that of an issue no more is asked; a little, three times.
_FAR, _CLEARLY, _STEADY, TIMES = 0.6, 0.8, 0.94, 3
_ALL = 0.95  # by which the loss is below the constant-prediction baseline: there is little left to gain
# The loss over that without, beyond which it is out: at the first mark, later, and later beside a network that learns.
_LOST_AT_FIRST, _LOST, _NO_BETTER = 2.0, 1.05, 0.99
_GAIN_OF_LOSS = (
    3.0  # times the gain is required where only a loss is compared: faster training alone saves a third of it
)
_SLOW_LOSS_RATIO = 1.1  # allowed where a network that hardly moved is trained faster: it becomes surer of its errors
_LEARNS_WELL = 0.7  # of the loss of the constant-prediction baseline is saved; two healthy tasks in one loss save 0.8
_FALLEN = 0.1  # of the first loss
_NEARLY_BEST = 0.75  # of the largest gain: the most specific treatment that reaches it is the cause
_HALF = 0.5  # of a gain: of that of BatchNorm, which helps healthy networks as well; by twice the steps alone
_STEP_SIZE = frozenset({"learning_rate", "oscillation"})
_SETTINGS = frozenset({"weight_decay", "dropout"})
_FOLDS = 4  # trials of a treatment, each on other held-out samples, where two leave it open


def has_lost(own: Score, other: Score, *, marks: int, learns: bool) -> bool:
    """True if a treatment is out.

    Args:
        own: With it.
        other: Without, after as many steps.
        marks: How often they were compared, this time included.
        learns: True if the network learns without.
    """
    most = _LOST_AT_FIRST if marks == 1 else _NO_BETTER if marks > 2 and learns else _LOST
    return not falls(own, other, 1 - most)


def leads(own: Score, other: Score, *, is_issue: bool, has_symptom: bool, learns: bool) -> bool:
    """True if held-out loss and score are clearly better.

    Args:
        own: With the treatment.
        other: Without.
        is_issue: True if a rule calls it an issue what is treated.
        has_symptom: True if a rule found anything of it.
        learns: True if the network learns without.
    """
    criterion = _RACE_ISSUE if is_issue else _RACE_TIP
    if learns or not has_symptom:
        criterion = _RACE_TIP if is_issue else _RACE_DOUBT
    gain, _ = own.gain_over(other)
    is_lower = is_issue and has_more(other) and falls(own, other, 1 - _CLEARLY) and gain >= 0
    return is_lower or (falls(own, other, 1 - criterion.max_loss_ratio) and _gains(own, other, criterion))


def leads_by_far(own: Score, other: Score) -> bool:
    """True if no more steps without treatment need be seen, of a network that learns nothing without."""
    return falls(own, other, 1 - _FAR)


def leads_clearly(own: Score, other: Score) -> bool:
    """True if the loss is much lower, and no fewer outputs are correct."""
    return falls(own, other, 1 - _CLEARLY) and own.share >= other.share


def leads_a_little(own: Score, other: Score) -> bool:
    """True if it is worth a look after more steps."""
    return falls(own, other, 1 - _STEADY)


def leads_at_last(own: Score, other: Score, *, learns: bool) -> bool:
    """True if loss and score are better by as much as a tip requires; beside a network that learns nothing, the score.

    Args:
        own: With the treatment.
        other: Without.
        learns: True if the network learns without.
    """
    share = 1 - _RACE_TIP.max_loss_ratio if learns else 0.0
    return falls(own, other, share) and _gains(own, other, _RACE_TIP)


def is_better_rate(own: Score, other: Score) -> bool:
    """True if a network that learns, learns clearly more with another rate."""
    return leads(own, other, is_issue=True, has_symptom=True, learns=True)


def leads_steadily(pairs: Sequence[tuple[Score, Score]]) -> bool:
    """True if the last of these pairs, (with, without), all show a lower loss, and no fewer correct outputs."""
    last = pairs[-TIMES:]
    return len(last) == TIMES and all(
        leads_a_little(own, other) and own.share >= other.share and has_more(other) for own, other in last
    )


def _gains(own: Score, other: Score, criterion: Criterion) -> bool:
    """True if the gain in correct outputs meets a criterion."""
    gain, error = own.gain_over(other)
    return gain >= max(criterion.min_gain, criterion.min_sigma * error)


def has_more(score: Score) -> bool:
    """True if there is something left to gain."""
    return score.skill is None or score.skill < _ALL


def falls(own: Score, other: Score, share: float) -> bool:
    """True if the loss is lower than the other's by more than this share of it, whatever its sign."""
    if not math.isfinite(other.loss):
        return math.isfinite(own.loss)
    return own.loss < other.loss - share * abs(other.loss)


@dataclass(frozen=True)
class Proof:
    """A treatment that helped, and helped again.

    Attributes:
        trial: The first of its trials.
        before: The score without it, of the first trial.
        gain: Mean over the trials.
        tries: How many there were.
        min_gain: The gain that was required.
    """

    trial: Trial
    before: Score
    gain: float
    tries: int
    min_gain: float

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
    """True if the network is clearly better with the treatment, in score and in loss."""
    criterion = _criterion_of(trial)
    min_gain = 0.0 if trial.suspicion.is_clear else criterion.min_gain  # a clear symptom: the second trial decides
    is_slow = trial.suspicion.remedy.code == "FL402" and trial.suspicion.is_clear
    max_loss_ratio = _SLOW_LOSS_RATIO if is_slow else criterion.max_loss_ratio
    return trial.gain > max(min_gain, criterion.min_sigma * trial.error) and trial.loss_ratio < max_loss_ratio


def prove(seen: Examination, tried: Sequence[Trial], whole: Sequence[Batch]) -> Proof | None:
    """The most specific treatment that helps nearly as much as the best, on other samples in another order as well.

    None for a network that has learnt nearly all there is.

    Args:
        seen: What all first trials share.
        tried: The first trials.
        whole: All batches; every fold of them holds out other samples.
    """
    if not has_more(seen.seen.score):
        return None
    left = [trial for trial in tried if counts(trial) and not _is_only_sooner(trial, seen)]
    if not math.isfinite(seen.seen.first_loss):  # no step was taken before
        left = [trial for trial in left if trial.suspicion.family not in {*_STEP_SIZE, "gradient_spikes"}]
    folds = _Folds(seen, whole)
    while left:
        trial = _most_specific(left, is_blown_up=_is_blown_up(seen))
        if math.isnan(seen.seen.score.loss):
            return Proof(trial, seen.seen.score, trial.gain, 1, 0.0)  # from nothing to something: no luck
        proof = _repeat(trial, folds, _criterion_in(trial, tried))
        if proof is not None and not (_can_be_sooner(trial.suspicion, seen) and _is_nearly_there(trial, folds)):
            return proof
        left.remove(trial)
    return None


def _can_be_sooner(suspicion: Suspicion, seen: Examination) -> bool:
    """Whether this may help in healthy networks: larger steps, BatchNorm, what came late, or a loss that can fall.

    In one that learns, new weights do so as well, unless a rule finds an issue that they treat.
    """
    is_fast = suspicion.remedy.code == "FL402" or suspicion.remedy.identity == BATCHNORM
    is_of_loss = seen.seen.score.is_of_loss and seen.is_learning
    is_new = suspicion.remedy.undoes_the_start and not suspicion.is_issue and seen.is_learning
    return is_fast or is_new or suspicion.is_late or not suspicion.has_symptom or is_of_loss


def _is_nearly_there(trial: Trial, folds: _Folds) -> bool:
    """Whether a loss, where nothing else can be compared, fell by far without treatment, or twice the steps do it."""
    own, first = folds.before, folds.seen
    has_fallen = own.is_of_loss and 0 <= own.loss < _FALLEN * first.seen.first_loss
    if has_fallen and first.is_learning:
        return True
    return folds.longer is not None and folds.longer.gain_over(own)[0] >= _HALF * trial.gain


def _is_only_sooner(trial: Trial, seen: Examination) -> bool:
    """Whether nothing but a loss is lower, of a network that learns: faster training lowers it in healthy ones.

    Of one that learns well, by anything that no rule calls an issue; else by larger steps, where they were of a usual
    size.
    """
    before, suspicion = seen.seen.score, trial.suspicion
    is_well = not suspicion.is_issue and (before.skill or 0.0) > _LEARNS_WELL
    is_usual = suspicion.remedy.code == "FL402" and not suspicion.has_symptom and seen.is_learning
    return before.is_of_loss and (is_well or is_usual)


class _Folds:
    """The same start, trained on other samples in another order with other noise; computed on demand."""

    def __init__(self, seen: Examination, whole: Sequence[Batch]) -> None:
        self.seen, self._whole = seen, whole
        self._made: dict[int, Examination] = {0: seen}

    @property
    def before(self) -> Score:
        """The score without treatment, the first time."""
        return self.seen.seen.score

    @cached_property
    def longer(self) -> Score | None:
        """The score without treatment after twice the steps; None where there is no time for them."""
        return twice_the_steps(self.seen)

    def attempt(self, fold: int, suspicion: Suspicion) -> Trial | None:
        """None where the budget has no room for it."""
        budget = self.seen.budget
        if not budget.has_room(f"{suspicion.name}, again", 1 if fold in self._made else 2):
            return None
        try:
            if fold not in self._made:
                self._made[fold] = self._without_treatment(fold)
        except KeyboardInterrupt:
            budget.interrupt()
            return None
        trial = self._made[fold].attempt(suspicion)
        return None if trial.is_open else trial

    def _without_treatment(self, fold: int) -> Examination:
        seen = self.seen
        again, judged = held_out(self._in_order(fold), fold=fold, divides=seen.divides)
        again, twin = again[: seen.budget.most], seen.patient.copy()
        train(twin, again, seen.loss_fn, seed=fold, measures=False)
        base = score(twin.model, judged, seen.loss_fn)
        return replace(seen, data=again, judged=judged, seen=replace(seen.seen, score=base), seed=fold)

    def _in_order(self, fold: int) -> list[Batch]:
        """Backwards, then begun elsewhere: another fifth comes last each time."""
        cut = fold * max(1, len(self._whole) // 5)
        return list(reversed(self._whole)) if fold == 1 else [*self._whole[cut:], *self._whole[:cut]]


def _repeat(first: Trial, folds: _Folds, criterion: Criterion) -> Proof | None:
    """Repeat a trial on other samples, until it is clear whether the treatment helps."""
    least, sigma = criterion.min_gain, criterion.min_sigma_of_mean
    trials = [first]
    for fold in range(1, _FOLDS):
        again = folds.attempt(fold, first.suspicion)
        if again is None:
            return None
        trials.append(again)
        gain = sum(trial.gain for trial in trials) / len(trials)
        error = math.sqrt(sum(trial.error**2 for trial in trials)) / len(trials)
        is_steady = trials[-1].gain > (0 if len(trials) == 2 else -trials[-1].error)
        if gain >= least and gain > sigma * error and is_steady:
            return Proof(first, folds.before, gain, len(trials), least)
        if gain + error < least:
            return None
    return None


def _criterion_of(trial: Trial) -> Criterion:
    """What the scores of this trial must show: the weaker the evidence, the more."""
    criterion = _TRIAL_LATE if trial.suspicion.is_late else _TRIAL_CLEAR
    if not trial.suspicion.is_clear:
        criterion = _TRIAL_TIP if trial.suspicion.has_symptom else _TRIAL_NONE
    if trial.score.is_of_loss:
        return replace(criterion, min_gain=_GAIN_OF_LOSS * criterion.min_gain)
    return criterion


def _criterion_in(trial: Trial, tried: Sequence[Trial]) -> Criterion:
    """The same; more if only BatchNorm helps, unless gradients vanish, which it is for."""
    if trial.suspicion.remedy.identity != BATCHNORM or trial.suspicion.family == "vanishing":
        return _criterion_of(trial)
    family = [other for other in tried if other.suspicion.family == trial.suspicion.family and other is not trial]
    is_alone = not any(counts(other) and other.gain >= _HALF * trial.gain for other in family)
    return _TRIAL_NONE if is_alone else _criterion_of(trial)


def _is_blown_up(seen: Examination) -> bool:
    """Whether the loss rose by far, and no row that stands out brought that: the steps did."""
    issues = {one.code for one in seen.diagnosis.findings if one.outcome == "issue"}
    return "FL401" in issues and seen.seen.evidence.outliers is None


def _most_specific(helped: Sequence[Trial], *, is_blown_up: bool = False) -> Trial:
    """Of the treatments that helped nearly as much as the best: the first, which is the most specific."""
    given = [trial for trial in helped if trial.suspicion.family in _SETTINGS and trial.suspicion.has_symptom]
    given += [trial for trial in helped if trial.suspicion.family == "oscillation" and trial.suspicion.remedy.is_due]
    given = [trial for trial in given if trial.gain >= _NEARLY_BEST * max(other.gain for other in helped)]
    if given:  # a number that was set, and a symptom that it alone brings
        return given[0]
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
    steps = [trial for trial in near if trial.suspicion.family in _STEP_SIZE and trial.is_calm]
    likely = [trial for trial in helped if trial.gain >= _NEARLY_BEST * best]
    early = [trial for trial in likely if not trial.suspicion.is_late and trial.suspicion.family not in _STEP_SIZE]
    rates = [trial for trial in near if trial.suspicion.family == "learning_rate"]
    if is_blown_up and near[0].suspicion.family == "gradient_spikes" and rates:
        return rates[0]
    if near[0].suspicion.is_late and (steps or early):  # what came while training came of the steps or of the start
        return max(steps + early, key=lambda trial: trial.gain)
    return near[0]
