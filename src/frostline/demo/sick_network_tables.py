"""What the demo's first act measured, and how it reads."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from frostline.core.records import Finding, Treatment

_BAR = 20  # characters of the longest bar


@dataclass(frozen=True)
class Course:
    """One network, trained.

    Attributes:
        name: What it is.
        gradients: (layer, gradient norm) at the first step of its epochs, in the order of the layers.
        accuracy: On held-out digits.
        loss: Of its last epoch.
        steps: That its weights have taken.
        elapsed_s: Of everything that was done to it: examination, trials, training.
    """

    name: str
    gradients: tuple[tuple[str, float], ...]
    accuracy: float
    loss: float
    steps: int
    elapsed_s: float


@dataclass(frozen=True)
class HealthAct:
    """Everything that the first act shows.

    Attributes:
        sick: Eight convolutions with sigmoids, in the initialisation of `nn.Conv2d`.
        healed: The same network, treated; the same as `sick` where nothing helped.
        right: A twin that was built for its depth: ELU and He initialisation.
        found: Issues and tips, most severe first.
        cause: The family whose undoing made the symptoms go, or None.
        trials: What was tried, from the same start on the same batches.
        untreated_loss: Held-out loss after a trial without treatment.
        total_s: Of the act.
    """

    sick: Course
    healed: Course
    right: Course
    found: tuple[Finding, ...]
    cause: str | None
    trials: tuple[Treatment, ...]
    untreated_loss: float
    total_s: float

    @property
    def is_cured(self) -> bool:
        """True if a treatment was kept, and the treated network answers more held-out digits right."""
        return any(trial.kept for trial in self.trials) and self.healed.accuracy > self.sick.accuracy

    def text(self) -> str:
        """What was found, the evidence, the cure, the proof."""
        found = [str(finding) for finding in self.found[:3]] or ["Nothing was found."]
        return "\n".join([
            "", "1. A network that does not learn: eight convolutions with sigmoids, on the digits 0-9", "", *found, "",
            "The evidence: gradient norm by layer, at the first step (bars in powers of ten)", _gradient_table(self),
            "",
            self._cause(), _trial_table(self), "",
            "The proof: accuracy on held-out digits", _course_table(self), "", self._verdict(),
        ])  # fmt: skip

    def _cause(self) -> str:
        if self.cause is None:
            return "The cause: none that a trial could prove."
        return f"The cause: {self.cause}. Fixing it helps, from the same start, on the same batches:"

    def _verdict(self) -> str:
        kept = "; ".join(trial.name for trial in self.trials if trial.kept)
        sick, healed, right = self.sick.accuracy, self.healed.accuracy, self.right.accuracy
        if not self.is_cured:
            done = (
                f"{kept} was kept, but accuracy is {healed:.3f} against {sick:.3f}" if kept else "no treatment helped"
            )
            return f"NOT CURED: {done}."
        twin = f"a twin that was built right reaches {right:.3f}"
        return f"Cured by {kept}: accuracy {healed:.3f} instead of {sick:.3f}; {twin}. ({self.total_s:.0f} s)"


def _gradient_table(act: HealthAct) -> str:
    norms = [dict(course.gradients) for course in (act.sick, act.healed, act.right)]
    lowest = min((math.floor(math.log10(norm)) for own in norms for norm in own.values() if norm > 0), default=0)

    def shown(norm: float | None) -> str:
        if norm is None:
            return ""
        length = round(_BAR * (math.log10(norm) - lowest) / max(1, -lowest)) if norm > 0 else 0
        return f"{norm:.0e} {'#' * max(0, min(_BAR, length))}"

    table = _table("layer", *(course.name for course in (act.sick, act.healed, act.right)))
    for layer in norms[0]:
        table.add_row(layer, *(shown(own.get(layer)) for own in norms))
    return _rendered(table)


def _trial_table(act: HealthAct) -> str:
    table = _table("treatment", "held-out loss", "verdict")
    table.add_row("none", f"{act.untreated_loss:.3f}", "")
    for trial in act.trials:
        table.add_row(trial.name, f"{trial.loss:.3f}", "kept" if trial.kept else "rolled back")
    return _rendered(table)


def _course_table(act: HealthAct) -> str:
    table = _table("network", "accuracy", "training loss", "steps", "seconds")
    for course in (act.sick, act.healed, act.right):
        figures = (f"{course.accuracy:.3f}", f"{course.loss:.3f}", str(course.steps), f"{course.elapsed_s:.1f}")
        table.add_row(course.name, *figures)
    return _rendered(table)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _rendered(table: Table) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120, no_color=True, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(f"  {line.rstrip()}" for line in captured.get().splitlines())
