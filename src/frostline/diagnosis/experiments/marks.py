"""The best mark of a treated network, and the verdict on the state in which its training ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.diagnosis.experiments.examination import is_skilled
from frostline.diagnosis.experiments.score import Score, score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.trial import Patient

# How far right answers (or explained variance) may fall below those of the best mark: by so much, or two standard
# errors of a comparison sample by sample. A loss that is all there is to go by may rise by more.
_SLACK, _SLACK_OF_LOSS, _ERRORS = 0.02, 0.1, 2.0
_BREAKDOWN = 0.2  # the same, of a network that has broken down


@dataclass(frozen=True)
class Verdict:
    """What is said of the last state.

    Attributes:
        is_good: True if its steps are finite, and it is better than the constant-prediction baseline on held-out data.
        why: In a sentence.
    """

    is_good: bool
    why: str

    def of_best_mark(self, best: Score, last: Score, first_loss: float, steps: int) -> Verdict:
        """The same, where the model was taken back to the state of the best mark: that must be good as well.

        Args:
            best: The score of that state.
            last: That of the state in which training ended.
            first_loss: Of the first step, without treatment.
            steps: That were taken at the best mark.
        """
        scores = f"{described(best)} then, {described(last)} at the end"
        why = f"{self.why}; the model was taken back to its best state, after {steps} steps ({scores})"
        return Verdict(self.is_good and is_skilled(best, first_loss), why)


class BestMark:
    """The state in which held-out samples were answered best, while a treated network is trained on.

    Args:
        judged: The held-out samples.
        loss_fn: callable(output, target) -> scalar.

    Attributes:
        score: Of that state; None before the first.
        patient: A copy of it.
        steps: That it had taken.
    """

    def __init__(self, judged: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> None:
        self._judged, self._loss_fn = judged, loss_fn
        self.score: Score | None = None
        self.patient: Patient | None = None
        self.steps = 0

    def look(self, patient: Patient, steps: int) -> Score:
        """Score a state, and keep a copy if it is the best so far."""
        now = score(patient.model, self._judged, self._loss_fn, compares=True)
        best = self.score
        if math.isfinite(now.loss) and (best is None or (now.share, -now.loss) >= (best.share, -best.loss)):
            self.score, self.patient, self.steps = now, patient.copy(), steps
        return now

    def is_broken_down(self, now: Score) -> bool:
        """True if so much was lost since the best mark that it is no noise."""
        return self.score is not None and falls_below(now, self.score, least=_BREAKDOWN)

    def is_better_than(self, patient: Patient, first_loss: float) -> bool:
        """True if the state of the best mark is good, and clearly better than this one: it is taken back then.

        Args:
            patient: As training left it.
            first_loss: Of the first step, without treatment.
        """
        if self.score is None:
            return False
        last = score(patient.model, self._judged, self._loss_fn, compares=True)
        return falls_below(last, self.score) and is_skilled(self.score, first_loss)


def verdict_of(last: Score, best: Score | None, *, num_broken: int, first_loss: float) -> Verdict:
    """What is to be said of the state in which training ended, by samples that no decision used.

    Args:
        last: Its score.
        best: That of the best mark; None without one.
        num_broken: Steps at the end that were left out although inputs and targets were finite.
        first_loss: Of the first step, without treatment.
    """
    reasons: list[str] = []
    if not math.isfinite(last.loss):
        reasons.append("the held-out loss is not finite")
    elif not is_skilled(last, first_loss):
        reasons.append("the model is no better than the constant-prediction baseline on held-out samples")
    elif best is not None and falls_below(last, best, least=_BREAKDOWN):
        reasons.append("the model lost most of what it had learnt")
    if num_broken:
        reasons.append(f"{num_broken} of the last steps were not finite, although their data are")
    return Verdict(not reasons, "; ".join(reasons) or f"the model is good at the end ({described(last)})")


def falls_below(own: Score, best: Score, *, least: float | None = None) -> bool:
    """True if held-out samples are answered clearly worse than by the best.

    Args:
        own: The score.
        best: That of the best.
        least: By which it must be lower; None takes what is no noise.
    """
    if not math.isfinite(own.loss):
        return True
    gain, error = own.gain_over(best)
    slack = _SLACK_OF_LOSS if own.is_of_loss else _SLACK
    return gain < -max(least or slack, _ERRORS * error if math.isfinite(error) else 0.0)


def described(score: Score) -> str:
    """The score in words: right answers or explained variance, or the loss where there is nothing else."""
    return f"loss {score.loss:.3g}" if score.is_of_loss else f"score {score.share:.0%}"
