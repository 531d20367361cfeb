"""Ask the checkup about published bugs: `python -m exams.published [--part PART] [name ...]`.

`--heal` lets `heal` treat them, `--rivals` asks the rules of other tools, `--networks` takes networks of usual size,
`--healthy` healthy ones of all kinds.

Prints a row for each: whether something is said of the sick network, as an issue, the right cause first, advice with
the words of the fix, and the issues of the fixed twin. A bug in the loop is asked of the monitor as well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import frostline

from . import answers as answers
from . import examples as examples
from . import graphs as graphs
from . import healthy_networks as healthy_networks
from . import images as images
from . import loops as loops
from . import losses as losses
from . import makers as makers
from . import misfits as misfits
from . import mislabels as mislabels
from . import objectives as objectives
from . import outcomes as outcomes
from . import own_parts as own_parts
from . import pairs as pairs
from . import parts as parts
from . import places as places
from . import rates as rates
from . import real_networks
from . import samples as samples
from . import scales as scales
from . import sentences as sentences
from . import sequences as sequences
from . import settings as settings
from . import speeds as speeds
from . import stages as stages
from . import steps as steps
from . import streams as streams
from . import structures as structures
from . import targets as targets
from . import terms as terms
from . import updates as updates
from . import wiring as wiring
from .case import CASES, Published, Training
from .healthy import WELL
from .tables import of_healthy, of_networks, of_repairs, of_rivals, write

# `make exam` writes the first with the second in it.
_PAGES = (Path("docs/exam.md"), Path("exams/health/published.md"))
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
    parser.add_argument("names", nargs="*", help="of the bugs; with --networks, of the kinds")
    parser.add_argument(
        "--part", default="open", help="of the bugs, if unnamed",
        choices=(
            "open", "set aside", "later", "drawn", "second draw", "third draw", "fourth draw", "all",
        ),
    )  # fmt: skip
    parser.add_argument("--heal", action="store_true", help="let `heal` treat them instead, and measure what it brings")
    parser.add_argument("--rivals", action="store_true", help="ask the rules of other tools instead")
    parser.add_argument(
        "--networks", action="store_true", help="ask about networks of usual size instead; minutes each"
    )
    parser.add_argument("--write", action="store_true", help="write the table between its marks into the pages as well")
    parser.add_argument("--healthy", action="store_true", help="ask about healthy networks of all kinds instead")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases = [case for case in CASES.values() if options.part in (case.part, "all")]
    cases = (
        [CASES[name] for name in options.names] if options.names and not options.networks | options.healthy else cases
    )
    asked = [name for name in ("heal", "rivals", "networks", "healthy") if getattr(options, name)]
    name = asked[0] if asked else "checkup"
    rows = {
        "heal": lambda: of_repairs(cases),
        "rivals": lambda: of_rivals(cases),
        "networks": lambda: of_networks(options.names or list(real_networks.KINDS)),
        "healthy": lambda: of_healthy(options.names or list(WELL)),
    }
    lines = []
    for row in rows.get(name, lambda: _of_checkups(cases))():
        lines.append(f"| {' | '.join(row)} |")
        sys.stdout.write(f"{lines[-1]}\n")
        sys.stdout.flush()
    for page in _PAGES if options.write else ():
        write(page, name, lines)


def _of_checkups(cases: Sequence[Published]) -> Iterator[Sequence[str]]:
    yield "bug", *_MARKS, "found"
    yield ["---"] * (len(_MARKS) + 2)
    total = [0] * len(_MARKS)
    for case in cases:
        sick, twin = ask(case, is_sick=True), ask(case, is_sick=False)
        own = marks(case, sick, twin)
        total = [count + mark for count, mark in zip(total, own, strict=True)]
        yield case.name, *("yes" if mark else "no" for mark in own), ", ".join(dict.fromkeys(sick.codes))
    yield f"of {len(cases)}", *map(str, total), ""


if __name__ == "__main__":
    main(sys.argv[1:])
