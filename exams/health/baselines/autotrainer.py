"""AUTOTRAINER's rules and its order of repair (ICSE 2021, with the abnormal-data rule of TDSC 2024).

References:
    Zhang, Zhai, Ma and Shen (2021), AUTOTRAINER: an automatic DNN training problem detection and repair system,
    Table I and section V-D; `utils/monitor.py` and `utils/repair.py` for priorities and order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..cases import Case
from ..training import Batch, Setup
from ..verdict import Verdict
from . import remedies
from .watch import Trace, watch, watch_case

EXPECTED_ACCURACY = 0.6  # its one task-dependent parameter; the value of its reproduce.py
VANISHING_RATIO, VANISHING_NORM = 1e-3, 1e-4
EXPLODING_RATIO = 70.0
DEAD_SHARE = 0.7
OSCILLATION_RISE, OSCILLATION_SHARE = 0.03, 0.2
SLOW_CHANGE = 0.01
ABNORMAL_OUTPUT = 10.0
LOSS_LIMIT = 1e3
SILENT_SHARE = 0.3  # accuracy-based symptoms count only after this share of the epochs
TRIES = 6

# Families in the library's words.
FAMILIES = {
    "data": "input_scale",
    "relu": "dead_units",
    "explode": "exploding",
    "vanish": "vanishing",
    "not_converge": "learning_rate",
    "oscillate": "oscillation",
    "slow": "learning_rate",
}
ORDER = {
    "explode": ("selu", "relu", "clip", "clip", "tanh", "batchnorm"),
    "vanish": ("selu", "relu", "batchnorm"),
    "relu": ("selu", "batchnorm", "reinitialise", "reinitialise", "leaky_relu", "elu"),
    "oscillate": ("adam", "lr_down", "lr_down", "lr_down", "reinitialise"),
    "slow": ("adam", "rmsprop", "lr_up", "lr_up", "reinitialise"),
    "not_converge": ("adam", "rmsprop", "lr_up", "lr_up", "reinitialise"),
    "data": ("batchnorm",),
}


def problems(trace: Trace) -> list[str]:
    """Problems in its order of priority: data, then ReLU, explosion, vanishing, no convergence, then the mild two."""
    found: list[str] = []
    if any(output >= ABNORMAL_OUTPUT for output in trace.looks[0].output_means):
        found.append("data")
    accuracies = [look.accuracy for look in trace.looks]
    is_low = trace.has_classes and max(accuracies) <= EXPECTED_ACCURACY
    is_broken = any(not look.is_finite for look in trace.looks)
    is_broken |= any(not loss < LOSS_LIMIT for loss in trace.losses)
    looks = trace.looks
    if is_low and any(look.zero_share >= DEAD_SHARE for look in looks):
        found.append("relu")
    if is_broken or (is_low and any(look.first_norm >= EXPLODING_RATIO * look.last_norm > 0 for look in looks)):
        found.append("explode")
    if is_low and any(
        look.first_norm <= VANISHING_RATIO * look.last_norm and look.first_norm <= VANISHING_NORM for look in looks
    ):
        found.append("vanish")
    if trace.has_classes:
        found += _symptoms_of_accuracy(accuracies, is_low)
    return found


def _symptoms_of_accuracy(accuracies: list[float], is_low: bool) -> list[str]:
    settled = accuracies[round(SILENT_SHARE * len(accuracies)) :]
    found = []
    swings = _swings(settled)
    if len(settled) > 2 and swings / len(settled) >= OSCILLATION_SHARE:
        found.append("oscillate")
    changes = [abs(b - a) for a, b in itertools.pairwise(settled)]
    if is_low and changes and max(changes) <= SLOW_CHANGE:
        found.append("slow")
    elif is_low:
        found.append("not_converge")
    return found


def _swings(accuracies: list[float]) -> int:
    """Neighbouring local maxima and minima of the accuracy that lie at least 3 points apart."""
    turns = [accuracies[0]] if accuracies else []
    for before, here, after in zip(accuracies, accuracies[1:], accuracies[2:], strict=False):
        if (here - before) * (after - here) < 0:
            turns.append(here)
    return sum(high - low >= OSCILLATION_RISE for high, low in itertools.pairwise(turns))


class Autotrainer:
    """Its rules as a judge, and its repairs: each tried from a fresh start until nothing is detected any more."""

    name = "autotrainer"

    def checkup(self, case: Case) -> Verdict:
        """Alarm if it detects a problem."""
        found = problems(watch_case(case))
        return Verdict(bool(found), tuple(dict.fromkeys(FAMILIES[problem] for problem in found)))

    def heal(self, setup: Setup, batches: Sequence[Batch]) -> bool:
        """Go down its list for the problem that is detected, restarting for each try, at most `TRIES`."""
        start = remedies.remember(setup)
        batches = batches[: len(batches) * 4 // 5]  # it needs no held-out rows
        found = problems(watch(setup, batches))
        if not found:
            return False
        for name in ORDER[found[0]][:TRIES]:
            start.restore(setup)
            if not remedies.REMEDIES[name](setup):
                continue
            if not problems(watch(setup, batches)):
                return True
        return True
