"""Ask the checkup about published bugs: `python -m exams.published [--part PART] [name ...]`.

Prints a row for each: whether something is said of the sick network, as an issue, the right cause first, advice with
the words of the fix, and the issues of the fixed twin. A bug in the loop is asked of the monitor as well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

import frostline

from . import images as images
from . import losses as losses
from . import pairs as pairs
from . import rates as rates
from . import sequences as sequences
from . import settings as settings
from . import steps as steps
from . import wiring as wiring
from .case import CASES, Published, Training

_MARKS = ("said", "issue", "cause first", "advice", "issue on the twin")


@dataclass(frozen=True)
class Answer:
    """What was said of one network.

    Attributes:
        codes: Of all findings, the first first; "refused" where the call raised one of the library's errors.
        issues: Codes of issues.
        first: The cause, and code and family of the first finding.
        advice: All advice.
    """

    codes: tuple[str, ...]
    issues: tuple[str, ...]
    first: frozenset[str]
    advice: str


def ask(case: Published, *, is_sick: bool) -> Answer:
    """What the checkup says with default settings, and the monitor of a loop in which the bug is."""
    answers = [_asked(case, is_sick=is_sick, watches=False)]
    if case.build(is_sick).loop is not None:
        answers.append(_asked(case, is_sick=is_sick, watches=True))
    return Answer(
        tuple(code for one in answers for code in one.codes), tuple(code for one in answers for code in one.issues),
        frozenset[str]().union(*(one.first for one in answers)), " ".join(one.advice for one in answers),
    )  # fmt: skip


def _asked(case: Published, *, is_sick: bool, watches: bool) -> Answer:
    torch.manual_seed(1)
    training = case.build(is_sick)
    try:
        found = _watched(training) if watches else _examined(training)
    except frostline.FrostlineError as error:  # refused, with what to do
        text = str(error)
        names = {"optimizer"} if "optimizer" in text else set[str]()
        return Answer(("refused",), ("refused",), frozenset({"refused", *names}), text)
    issues = tuple(one.code for one in found.findings if one.outcome == "issue")
    first = {found.cause or "", *((found.findings[0].code, found.findings[0].family) if found.findings else ())}
    advice = " ".join(one.advice for one in found.findings)
    return Answer(tuple(one.code for one in found.findings), issues, frozenset(first), advice)


def _examined(training: Training) -> Any:
    return frostline.checkup(training.model, training.batches, training.loss_fn, training.optimizer, progress=False)


def _watched(training: Training) -> Any:
    assert training.loop is not None
    with frostline.Monitor(training.model, training.optimizer) as monitor:
        training.loop(training, monitor)
    return monitor.diagnosis


def marks(case: Published, sick: Answer, twin: Answer) -> tuple[bool, ...]:
    """One mark for each column."""
    advice = sick.advice.lower()
    return (
        bool(sick.codes), bool(sick.issues), bool(sick.first & case.right),
        any(word.lower() in advice for word in case.words), bool(twin.issues),
    )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Ask about all cases, or about those of these names or of one part."""
    parser = argparse.ArgumentParser(prog="python -m exams.published", description=__doc__)
    parser.add_argument("names", nargs="*", help="of the bugs")
    parser.add_argument("--part", default="open", choices=("open", "set aside", "all"), help="of the bugs, if unnamed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    total = [0] * len(_MARKS)
    _row("bug", *_MARKS, "found")
    _row(*["---"] * (len(_MARKS) + 2))
    cases = [case for case in CASES.values() if options.part in (case.part, "all")]
    cases = [CASES[name] for name in options.names] or cases
    for case in cases:
        sick, twin = ask(case, is_sick=True), ask(case, is_sick=False)
        own = marks(case, sick, twin)
        total = [count + mark for count, mark in zip(total, own, strict=True)]
        _row(case.name, *("yes" if mark else "no" for mark in own), ", ".join(dict.fromkeys(sick.codes)))
    _row(f"of {len(cases)}", *map(str, total), "")


def _row(*cells: str) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
