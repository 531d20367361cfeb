"""Random calls of every public name: `python -m exams.fuzz.calls --seconds 600`, or `--replay 'freeze(through=bytes)'`.

The law: a result, or a `FrostlineError` in four parts whose remedy, where it names a call of ours, helps; and the
process and the model are as before, but for what the call is for.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from exams.fuzz.public.catalogue import DOORS, defaults_of, drawn, parse, single, smallest
from exams.fuzz.public.doors import Door
from exams.fuzz.public.laws import checked
from exams.fuzz.public.pools import Call
from exams.fuzz.public.verdicts import Fault


def main() -> int:
    """Run the fuzzer as the options say."""
    options = _options()
    torch.set_num_threads(1)
    doors = [door for name, door in DOORS.items() if name.startswith(tuple(options.only or [""]))]
    doors = [door for door in doors if not door.name.startswith(tuple(options.without))]
    if options.replay:
        for text in options.replay:
            call = parse(text)
            verdict = checked(DOORS[call.door], call)
            sys.stdout.write(f"{text}\n  {verdict.outcome}: {verdict.fault or verdict.error or ''}\n")
        return 0
    calls = _singles(doors) if options.single else _endless(doors, random.Random(options.seed))
    tally = Tally(Path(options.out) if options.out else None)
    until = time.monotonic() + options.seconds
    for call in islice(calls, options.count):
        if time.monotonic() > until:
            break
        tally.add(call)
    tally.write()
    sys.stdout.write(tally.report())
    return int(bool(tally.first))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--count", type=int, default=10**9, help="Stop after so many calls.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="Doors whose names begin like this.")
    parser.add_argument("--without", nargs="*", default=(), help="Not these.")
    parser.add_argument("--single", action="store_true", help="Every value once, all others plain.")
    parser.add_argument("--replay", nargs="*", help="These calls, as a report prints them.")
    parser.add_argument("--out", help="A file for the report.")
    return parser.parse_args()


def _singles(doors: list[Door]) -> Iterator[Call]:
    for door in doors:
        yield from single(door)


def _endless(doors: list[Door], source: random.Random) -> Iterator[Call]:
    weights = [1 / door.cost for door in doors]
    while True:
        yield drawn(source.choices(doors, weights)[0], source)


_PILLARS = {
    "splitting": ("splitting/", "core/"),
    "caching": ("caching/",),
    "doctor": ("diagnosis/", "remedies/", "recipes/heal", "recipes/checkup", "recipes/monitoring"),
    "training": ("training/", "transfer/", "data/", "cli/", "recipes/"),
}


def pillar_of(fault: Fault) -> str:
    """The pillar where a fault happened; without a line of the library, that of the call."""
    return next(
        (name for name, folders in _PILLARS.items() if fault.place.startswith(folders)), DOORS[fault.call.door].owner
    )


_WRITTEN_EVERY = 500  # calls
_HEAD = ("| times | fault | where | smallest call | message |", "|---|---|---|---|---|")


class Tally:
    """Counts of calls, and the faults found, each with its smallest call.

    Args:
        path: The report is written here from time to time.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.outcomes: Counter[str] = Counter()
        self.frequency: Counter[tuple[str, str, str]] = Counter()
        self.first: dict[tuple[str, str, str], Fault] = {}

    def add(self, call: Call) -> None:
        """Make a call."""
        verdict = checked(DOORS[call.door], call)
        self.outcomes[verdict.outcome] += 1
        fault = verdict.fault
        if fault is not None:
            self.frequency[fault.key] += 1
            if fault.key not in self.first:
                small = smallest(call, fault.key, checked)
                self.first[fault.key] = Fault(small, fault.kind, fault.place, fault.detail)
        if sum(self.outcomes.values()) % _WRITTEN_EVERY == 0:
            self.write()

    def write(self) -> None:
        """Write the report as it stands."""
        if self.path is not None:
            self.path.write_text(self.report())

    def report(self) -> str:
        """The counts, and the faults by pillar and frequency."""
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        total = sum(self.outcomes.values())
        lines = [f"{total} calls: {counts}. {len(self.first)} different faults. Other parameters are plain."]
        for pillar in sorted({pillar_of(fault) for fault in self.first.values()}):
            rows = [key for key, _ in self.frequency.most_common() if pillar_of(self.first[key]) == pillar]
            lines += [
                "",
                f"## {pillar}",
                "",
                "| times | fault | where | smallest call | message |",
                "|---|---|---|---|---|",
            ]
            lines += [self._row(key) for key in rows]
        return "\n".join(lines) + "\n"

    def _row(self, key: tuple[str, str, str]) -> str:
        fault = self.first[key]
        call, detail = fault.call.plainly(defaults_of(DOORS[fault.call.door])), fault.detail.replace("|", "/")[:140]
        return f"| {self.frequency[key]} | {fault.kind} | {fault.place} | `{call}` | {detail} |"


if __name__ == "__main__":
    sys.exit(main())
