"""The course of a run over its phases: times, cache figures and findings, as the result of `fit` has them."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.records import PhaseFigures, Timings
from frostline.core.restore import kept_generators, seed_generators
from frostline.diagnosis import all_of, diagnosis_of
from frostline.transfer import FrozenState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from frostline.core.records import CacheFigures, Diagnosis, Finding
    from frostline.core.storage_records import StoragePlan
    from frostline.recipes.monitoring import Watching
    from frostline.recipes.phases import MovingLine, Phase
    from frostline.recipes.prepare import Ready
    from frostline.training import Progress

_ORDER = ("issue", "tip", "passed", "not judged", "not applicable")


class RunCourse:
    """Times, cache figures and findings of the phases of a run.

    Args:
        line: The frost line of the run.
        seed: Of the generators while a phase is prepared.
        watching: The monitor of the run, or None.
        fills: Features are kept: those of lines below, which later phases need, before the first one.
        is_verbose: Print the plan, and at every line which rows are reused and computed, to standard error.

    Attributes:
        phases: Those that ran an epoch in this process.
        figures: Of the training data: rows computed and reused in all phases, in the folder of the last.
        plan: What the last phase could store, where the cache is planned.
    """

    def __init__(
        self, line: MovingLine, seed: int, watching: Watching | None, *, is_verbose: bool, fills: bool
    ) -> None:
        self._line, self._seed, self._watching, self._is_verbose = line, seed, watching, is_verbose and line.is_moving
        self._fills = fills
        self._ready: Ready | None = None  # at the line before
        self.phases: tuple[PhaseFigures, ...] = ()
        self.figures: CacheFigures | None = None
        self.plan: StoragePlan | None = None
        self._split_s = self._fill_s = self._epochs_s = self._more_s = 0.0
        self._diagnoses: list[Diagnosis] = []

    @contextmanager
    def of(self, phase: Phase, progress: Progress, make_ready: Callable[..., Ready]) -> Generator[Ready]:
        """Around the epochs of a phase; nothing that is frozen in it moves.

        Args:
            phase: Which one.
            progress: Of the run.
            make_ready: callable(epochs that the rows serve, what was made ready at the line before) that splits the
                model at its line, and fills the cache; generators are put back.
        """
        if self._is_verbose and self._ready is None:
            sys.stderr.write("".join(f"plan: {planned}\n" for planned in self._line.plan))
        with kept_generators():
            for _ in self._line.lines_below() if self._fills and self._ready is None else ():
                below = self._make_ready(make_ready, "a line below, for a later phase",
                                         self._line.num_epochs(progress, of_run=True))  # fmt: skip
                below.around.close()  # of a line at which nothing is cached
            promise = FrozenState(self._line.model)
            begins = f"phase {phase.number}, from epoch {len(progress.history) + 1}"
            ready = self._make_ready(make_ready, f"{begins}: {phase.change}" if phase.change else begins,
                                     self._line.num_epochs(progress))  # fmt: skip
        first, started = len(progress.history) + 1, time.perf_counter()
        with ready.around:
            yield ready
        self._epochs_s += time.perf_counter() - started
        promise.check()
        num_epochs = len(progress.history) + 1 - first
        self._more_s += ready.frozen_epoch_s * num_epochs
        if num_epochs:
            own = PhaseFigures(phase.number, first, first + num_epochs - 1, phase.change, ready.figures)
            self.phases = (*self.phases, own)
        if self._watching is not None and num_epochs:
            found = self._watching.diagnosis(ready, progress.history[first - 1 :])
            self._diagnoses += [found] if found is not None else []

    def _make_ready(self, make_ready: Callable[..., Ready], what: str, num_epochs: int) -> Ready:
        seed_generators(self._seed)
        self._ready = ready = make_ready(num_epochs, self._ready)
        self._split_s, self._fill_s = self._split_s + ready.split_s, self._fill_s + ready.fill_s
        self.figures, self.plan = _joined(self.figures, ready.figures), ready.plan
        if self._is_verbose:
            sys.stderr.write(f"{what}; {ready.line or 'nothing is cached'}\n")
        return ready

    def timings(self, started: float, heal_s: float) -> Timings:
        """Seconds of the call that began at `started`."""
        uncached_s = self._epochs_s + self._more_s if self.figures is not None else None
        total_s = time.perf_counter() - started
        return Timings(self._split_s, self._fill_s, self._epochs_s, total_s, uncached_s, heal_s)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The findings of all phases: of each rule and layer the most severe; None without a monitor."""
        if len(self._diagnoses) < 2:
            return self._diagnoses[0] if self._diagnoses else None
        worst: dict[tuple[str, str | None], Finding] = {}
        for finding in [finding for found in self._diagnoses for finding in all_of(found)]:
            known = worst.setdefault((finding.code, finding.layer), finding)
            if _ORDER.index(finding.outcome) < _ORDER.index(known.outcome):
                worst[finding.code, finding.layer] = finding
        return diagnosis_of(list(worst.values()), cause=None)


def _joined(before: CacheFigures | None, now: CacheFigures | None) -> CacheFigures | None:
    if before is None or now is None:
        return now or before
    return replace(now, computed=before.computed + now.computed, reused=before.reused + now.reused,
                   bytes=before.bytes + now.bytes, proven=before.proven + now.proven)  # fmt: skip
