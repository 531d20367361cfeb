"""Run the exam of `fl.port`. See `docs/exam-porting.md` for what the figures mean."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import report
from .build import NETWORKS, build
from .peers import judging
from .public_files import build_public
from .stored import stored
from .tasks import tasks
from .trials import Verdict
from .workers import verdicts

if TYPE_CHECKING:
    from .stored import Stored

RESULTS = Path("build/porting/results.json")
REPORT = Path("docs/exam-porting.md")
MODES = (
    "by hand",
    "plain",
    "golden",
    "other names",
    "lying names",
    "renamed",
    "shuffled",
    "partial",
    "traps",
    "scaffold",
    "peers",
)


def run(mode: str, networks: list[Stored], count: int, num_workers: int) -> list[Verdict]:
    """The verdicts of one mode."""
    if mode == "peers":
        return [*judging.weightbridge(networks), *judging.onnx_converters()]
    return list(verdicts(tasks(mode, networks, count), num_workers=num_workers))


def merged(kept: list[Verdict], found: list[Verdict], commit: str) -> list[Verdict]:
    """Earlier verdicts, those of the modes that were run again replaced; each says at which commit it was found."""
    modes = {verdict.mode for verdict in found}
    return [
        *(one for one in kept if one.mode not in modes),
        *(replace(one, commit=commit) for one in found),
    ]


def missing(verdicts: list[Verdict]) -> list[str]:
    """The modes of which there are no verdicts: a page without them would be read as one of the whole exam."""
    found = {verdict.mode for verdict in verdicts}
    return [mode for mode in report.MEANINGS if mode not in found]


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="python -m exams.porting", description=__doc__)
    parser.add_argument("--mode", nargs="+", default=list(MODES), choices=MODES, help="how the networks are ported")
    parser.add_argument(
        "--only", nargs="+", help="networks whose names contain one of these texts; the results are only printed"
    )
    parser.add_argument(
        "--renamings", type=int, default=1000, help="ports into modules under random names, and from shuffled files"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes at the same time")
    parser.add_argument("--no-build", action="store_true", help="take the networks that are built")
    parser.add_argument("--report-only", action="store_true", help="write the page from the results at hand")
    options = parser.parse_args()
    kept = [Verdict(**each) for each in json.loads(RESULTS.read_text())] if RESULTS.exists() else []
    if not options.report_only:
        if not options.no_build:
            build()
            build_public()
        networks = [
            each
            for each in stored(NETWORKS)
            if not options.only or any(text in f"{each.framework}/{each.name}" for text in options.only)
        ]
        commit = report.commit()
        for mode in options.mode:
            found = run(mode, networks, options.renamings, options.workers)
            sys.stdout.write(report.summary(mode, found) + "\n")
            sys.stdout.flush()
            kept = merged(kept, found, commit)
            if not options.only:  # after each mode: a run that is stopped keeps what it has
                RESULTS.write_text(json.dumps([asdict(verdict) for verdict in kept], indent=1))
        if options.only:
            return
    if left := missing(kept):
        sys.stdout.write(f"{REPORT} was not written: there are no results of {', '.join(left)}.\n")
        return
    report.write(kept, stored(NETWORKS), REPORT)


if __name__ == "__main__":
    main()
