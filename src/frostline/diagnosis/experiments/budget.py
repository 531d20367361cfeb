"""What an examination may cost: seconds, counted in the training steps of the network that is examined.

The time of one step is measured on a copy. From it follow the budget (`EPOCHS` of training, if none is given) and how
many batches each experiment trains on; what does not fit into the rest of the budget is left out and reported.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frostline.core.errors import FOREIGN, FrostlineError
from frostline.diagnosis.experiments.trial import train

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor, nn

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.trial import Patient

EPOCHS = 3.0  # of the network's own training: what an examination may take, unless three of them are very short
FLOOR_S = 20.0  # what it may take in any case: networks of the exam, with epochs of 20 ms, take 1 to 6 s in all
_TRAININGS = 8  # that one examination consists of: one that is watched, three or four trials, repeats of the best
_FEWEST_TRAININGS = 6  # the same, where batches are few: watched, two trials, one of them again
_FEWEST_STEPS = 200  # in which a sick network shows: two thirds of a training of the exam
_FEWEST_TIMED, _MOST_TIMED, _TIMED_S = 3, 20, 0.05  # steps whose time is measured, after one that is not counted
_QUIET_S = 5.0  # an examination that takes less reports no progress


def _silent(_: str) -> None:
    """No progress is reported."""


@dataclass
class Budget:
    """Seconds that an examination may take; the clock runs from when it is made.

    Attributes:
        total_s: All of them; infinite without a limit.
        trial_s: What one more training is expected to take.
        most: Batches that an experiment trains on; None: all.
        available: Batches that there are.
        tell: Called with a line of progress.
        clock: Gives seconds; another one in tests.
        left_out: Names of the experiments for which there was no room, in the order in which they were due.
        is_interrupted: True if the user broke the examination off.
    """

    total_s: float = math.inf
    trial_s: float = 0.0
    most: int | None = None
    available: int = 0
    tell: Callable[[str], None] = _silent
    clock: Callable[[], float] = time.thread_time
    left_out: list[str] = field(default_factory=list[str])
    is_interrupted: bool = False
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def spent_s(self) -> float:
        """Seconds since it was made."""
        return self.clock() - self._started

    @contextmanager
    def training(self) -> Generator[None]:
        """One training: the next one is expected to take as long."""
        started = self.clock()
        yield
        self.trial_s = self.clock() - started

    @property
    def is_cut(self) -> bool:
        """True if experiments train on some of the batches only."""
        return self.most is not None and self.most < self.available

    @property
    def enough_s(self) -> int:
        """Seconds that would do for experiments on all batches."""
        step_s = self.trial_s / max(1, self.most or self.available)
        return 10 * math.ceil(max(_TRAININGS * self.available * step_s, self.spent_s) / 10)

    @property
    def ended(self) -> str:
        """Why nothing more is tried, as half a sentence."""
        return "the checkup was interrupted" if self.is_interrupted else f"the budget of {self.total_s:.2g} s was spent"

    def has_room(self, name: str, trainings: int = 1) -> bool:
        """True if there is time for so many trainings; else the experiment is noted as left out.

        Args:
            name: Of the experiment.
            trainings: That it takes before it can change the diagnosis.
        """
        has_room = not self.is_interrupted and self.spent_s + trainings * self.trial_s <= self.total_s
        if not has_room and name not in self.left_out:
            self.left_out.append(name)
        if has_room:
            self.tell(f"trying: {name} ({self.spent_s:.0f} s so far)")
        return has_room

    def interrupt(self) -> None:
        """Leave out all experiments from now on."""
        self.is_interrupted = True
        self.tell("interrupted: what is known so far follows")


def budget_for(
    patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *, per_epoch: float,
    seconds: float | None, tell: Callable[[str], None] | None = None,
) -> Budget:  # fmt: skip
    """A budget by the measured time of the network's own steps; its clock runs from the first of these.

    Args:
        patient: A copy of it is trained for a few steps.
        data: Batches to train on.
        loss_fn: callable(output, target) -> scalar.
        per_epoch: How many batches an epoch has.
        seconds: The whole budget; None takes three epochs of training, and at least `FLOOR_S` seconds.
        tell: Called with lines of progress, if it takes long; None: nothing is.
    """
    budget = Budget(clock=clock_of(patient.model))
    step_s = _step_seconds(patient, data, loss_fn)
    if step_s is None:
        return budget
    own = EPOCHS * per_epoch * step_s
    budget.total_s = max(FLOOR_S, own) if seconds is None else seconds
    budget.most = _num_batches(budget.total_s, step_s, len(data))
    budget.available, budget.trial_s = len(data), budget.most * step_s
    expected = min(budget.total_s, _TRAININGS * budget.trial_s)
    if expected > _QUIET_S and tell is not None:
        budget.tell = tell
        part = f"{budget.most} of {len(data)}" if budget.most < len(data) else f"{len(data)}"
        tell(f"about {expected:.0f} s (an epoch of training takes {per_epoch * step_s:.2g} s): copies train on "
             f"{part} batches; Ctrl-C ends it with what is known by then")  # fmt: skip
    return budget


def clock_of(model: nn.Module) -> Callable[[], float]:
    """Seconds of this thread's work on a processor, which others that use it do not change; on a GPU, of the clock."""
    devices = {parameter.device.type for parameter in model.parameters()}
    return time.thread_time if devices <= {"cpu"} else time.perf_counter


def _step_seconds(patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> float | None:
    """Seconds that the network takes to train on one batch; None if it cannot be trained."""
    count, clock = patient.accumulation, clock_of(patient.model)
    try:
        own, started = patient.copy(), clock()
        train(own, data[:count], loss_fn)
        many = int(_TIMED_S / max(clock() - started, 1e-9))
        timed = data[count : (1 + max(_FEWEST_TIMED, min(_MOST_TIMED, many))) * count] or data[:count]
        started = clock()
        train(own, timed, loss_fn)  # norms are read at its end: a GPU has done its work then
    except (FrostlineError, *FOREIGN):
        return None  # the examination raises the same error, with its reason
    return max(1e-9, clock() - started) / len(timed)


def _num_batches(total_s: float, step_s: float, available: int) -> int:
    """On how many batches an experiment trains: on all, if the budget allows for as many experiments as it takes."""
    if _TRAININGS * available * step_s <= total_s:
        return available
    many, few = (int(total_s / (count * step_s)) for count in (_TRAININGS, _FEWEST_TRAININGS))
    return max(2, min(available, max(many, min(few, _FEWEST_STEPS))))
