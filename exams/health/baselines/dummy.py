"""Alarm if NaN or accuracy low: what anyone sees without a tool."""

from __future__ import annotations

from ..cases import Case
from ..verdict import Verdict
from .watch import Trace, watch_case

LOW_ACCURACY = 0.6


def is_bad(trace: Trace) -> bool:
    """True for NaN, or a last epoch at most 60% right."""
    is_low = trace.has_classes and trace.looks[-1].accuracy <= LOW_ACCURACY
    return is_low or any(loss - loss != 0 for loss in trace.losses)


class Dummy:
    """Names the learning rate whenever it alarms, the commonest guess."""

    name = "dummy"
    heal = None

    def checkup(self, case: Case) -> Verdict:
        """Alarm if the training ends badly."""
        is_sick = is_bad(watch_case(case))
        return Verdict(is_sick, ("learning_rate",) if is_sick else ())
