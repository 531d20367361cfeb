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
    from frostline.recipes.training_setup import Ready
    from frostline.training import Progress

# A phase is trained without a cache if its frozen part takes less time than so many splits like the last one.
_SPLITS = 1.0
_SECONDS = "seconds of a split, and of the frozen part in an epoch at most"
_ORDER = ("issue", "tip", "passed", "not judged", "not applicable")


class RunCourse:
    """Times, cache figures and findings of the phases of a run.

    Args:
        line: The frost line of the run.
        seed: Of the generators while a phase is prepared.
        watching: The monitor of the run, or None.
        fills: Features are kept: those of lines below, which later phases need, before the first one.
        is_exact: They are what the model computes. Phases are trained without them only then: whether one is follows
            from times, and would decide the result.
        is_verbose: Print the plan, and at every line which rows are reused and computed, to standard error.

    Attributes:
        phases: Those that ran an epoch in this process.
        figures: Of the training data: rows computed and reused in all phases, in the folder of the last.
        plan: What the last phase could store, where the cache is planned.
    """

    def __init__(
        self, line: MovingLine, seed: int, watching: Watching | None, *, is_verbose: bool, fills: bool,
        is_exact: bool = True,
    ) -> None:  # fmt: skip
        self._line, self._seed, self._watching, self._is_verbose = line, seed, watching, is_verbose and line.is_moving
        self._fills, self._is_exact = fills, is_exact
        self._ready: Ready | None = None  # at the last line that was cached
        self.phases: tuple[PhaseFigures, ...] = ()
        self.figures: CacheFigures | None = None
        self.plan: StoragePlan | None = None
        self._split_s = self._fill_s = self._epochs_s = self._more_s = 0.0
        self._diagnoses: list[Diagnosis] = []

    @contextmanager
    def of(
        self, phase: Phase, progress: Progress, make_ready: Callable[..., Ready],
        at_most_s: Callable[[], float] | None = None,
    ) -> Generator[Ready]:  # fmt: skip
        """Around the epochs of a phase; nothing that is frozen in it moves.

        Args:
            phase: Which one.
            progress: Of the run.
            make_ready: callable(epochs that the rows serve, what was made ready at the line before) that splits the
                model at its line, and fills the cache; with `is_cached=False` it does neither. Generators are put back.
            at_most_s: callable() -> seconds that the frozen part takes in an epoch, at most. Where a split takes longer
                than all epochs of a phase save, the phase is trained without a cache. None: no phase is.
        """
        if self._is_verbose and self._ready is None:
            sys.stderr.write("".join(f"plan: {planned}\n" for planned in self._line.plan))
        with kept_generators():
            for own_epochs in self._line.lines_below() if self._fills and self._ready is None else ():
                if not self._why_plain(progress, own_epochs):
                    below = self._make_ready(make_ready, "a line below, for a later phase",
                                             self._line.num_epochs(progress, of_run=True))  # fmt: skip
                    below.around.close()  # of a line at which nothing is cached
                    self._note_seconds(progress, at_most_s)
            promise = FrozenState(self._line.model, is_cached=self._fills)
            begins = f"phase {phase.number}, from epoch {len(progress.history) + 1}"
            # a split has to be seen first
            why = self._why_plain(progress, self._line.length(progress)) if phase.number > 1 else ""
            ready = self._make_ready(make_ready, f"{begins}: {phase.change}" if phase.change else begins,
                                     self._line.num_epochs(progress), why)  # fmt: skip
            self._note_seconds(progress, at_most_s)
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

    def _note_seconds(self, progress: Progress, at_most_s: Callable[[], float] | None) -> None:
        """Keep what the first split took, and an epoch takes: a run that is resumed decides as this one."""
        if at_most_s is None or not self._fills or not self._line.is_moving or _SECONDS in progress.measured:
            return
        if self._ready is not None and self._ready.line is not None:
            progress.measured[_SECONDS] = [self._ready.split_s, at_most_s()]

    def _why_plain(self, progress: Progress, num_epochs: int) -> str:
        """Why so many epochs at this line are trained without a cache; "" if they are not."""
        is_frozen = any(not parameter.requires_grad for parameter in self._line.model.parameters())
        if not self._fills or not self._is_exact or not is_frozen or _SECONDS not in progress.measured:
            return ""
        split_s, epoch_s = progress.measured[_SECONDS]
        if num_epochs * epoch_s >= _SPLITS * split_s:
            return ""
        return (
            f"the frozen part takes {1e3 * num_epochs * epoch_s:.0f} ms at most in all its epochs, and a split "
            f"{1e3 * split_s:.0f} ms"
        )

    def _make_ready(self, make_ready: Callable[..., Ready], what: str, num_epochs: int, why_plain: str = "") -> Ready:
        seed_generators(self._seed)
        if why_plain:
            if self._is_verbose:
                sys.stderr.write(f"{what}; trained without a cache: {why_plain}\n")
            return make_ready(num_epochs, self._ready, is_cached=False)
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
