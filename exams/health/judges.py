"""Who can be examined. The library is imported here and nowhere else in the exam, and only when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .baselines.autotrainer import Autotrainer
from .baselines.dummy import Dummy
from .baselines.random_repair import RandomRepair
from .baselines.sagemaker import SageMaker, SageMakerWithLoss
from .cases import Case
from .training import Batch, Setup
from .verdict import Verdict


class Judge(Protocol):
    """What the exam asks of a judge; `heal` is None where it repairs nothing.

    `heal` gets a set-up and the batches it may use. On return the set-up's model and optimizer have been trained
    on the first four fifths of them and can go on. It says whether it changed anything.
    """

    name: str
    heal: Callable[[Setup, Sequence[Batch]], bool] | None

    def checkup(self, case: Case) -> Verdict:
        """Judge a training; all it may use of the case is `case.build()` and its batches."""
        ...


class Frostline:
    """The library's own judge: `frostline.checkup` and `frostline.heal`."""

    name = "frostline"

    def checkup(self, case: Case) -> Verdict:
        """Alarm if the diagnosis has an issue; the family is its cause, else its first candidate or finding."""
        import frostline

        setup = case.build()
        diagnosis = frostline.checkup(setup.model, setup.batches, setup.loss_fn, setup.optimizer, progress=False)
        issues = [finding for finding in diagnosis.findings if finding.outcome == "issue"]
        named = (diagnosis.cause, *diagnosis.candidates, *(finding.family for finding in issues))
        families = tuple(dict.fromkeys(family for family in named if family))
        return Verdict(bool(issues), families, "; ".join(f"{f.code} {f.why}" for f in issues)[:500])

    def heal(self, setup: Setup, batches: Sequence[Batch]) -> bool:
        """Heal in place."""
        import frostline

        return frostline.heal(setup.model, list(batches), setup.loss_fn, setup.optimizer).accepted


JUDGES: dict[str, Callable[[], Judge]] = {
    "frostline": Frostline,
    "autotrainer": Autotrainer,
    "sagemaker": SageMaker,
    "sagemaker+loss": SageMakerWithLoss,
    "dummy": Dummy,
    "random": RandomRepair,
}
