"""Run the exam of `fl.port`. See `docs/exam-porting.md` for what the figures mean."""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import report
from .build import NETWORKS, build
from .by_hand import by_hand
from .peers import judging
from .public_files import build_public
from .scaffolds import scaffolds
from .shuffling import KINDS, is_rewritable, shuffled
from .stored import LIMIT, stored
from .traps import TRAPS, WITH_GRAPH, WITHOUT
from .trials import EXACT, WRONG, Verdict, attempt, renamed
from .workers import Task, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from .stored import Stored

RESULTS = Path("build/porting/results.json")
PUBLIC = Path("build/porting/public")
REPORT = Path("docs/exam-porting.md")
MODES = (
    "by hand",
    "plain",
    "golden",
    "other names",
    "lying names",
    "renamed",
    "shuffled",
    "traps",
    "scaffold",
    "peers",
)


def files(network: Stored, *, kind: str = "") -> list[str]:
    """Its files of a kind: as they were saved, under `renamed` or under `lying` names."""
    kinds = {name: next((each for each in ("renamed", "lying") if name.startswith(each)), "") for name in network.files}
    return [name for name, found in kinds.items() if found == kind]


def judged(networks: list[Stored], mode: str) -> list[Stored]:
    """Those whose ports of this mode say something: some only with golden outputs."""
    return [network for network in networks if mode == "golden" or not network.counterpart.golden_only]


def task(network: Stored, file: str, mode: str, judge: Callable[..., Verdict], *arguments: object) -> Task:
    """A task that calls `judge` with the network, the file and the arguments."""
    return Task(f"{network.framework}/{network.name}", file, mode, partial(judge, network, file, *arguments))


def renamings(networks: list[Stored], count: int) -> Iterator[Task]:
    """So many ports into modules under random names, spread evenly over all files."""
    every = [
        (network, file)
        for network in judged(networks, "renamed")
        for file in files(network)
        if not network.name.startswith("onnx_")  # one layer: no names to speak of
    ]
    random.Random(0).shuffle(every)
    for seed in range(count):
        network, file = every[seed % len(every)]
        yield task(network, file, "renamed", renamed, seed)


def shufflings(networks: list[Stored], count: int) -> Iterator[Task]:
    """So many ports from files that were written anew, spread evenly over those that can be."""
    every = [
        (network, file)
        for network in judged(networks, "shuffled")
        for file in files(network)
        if is_rewritable(network, file)
    ]
    for seed in range(count if every else 0):
        network, file = every[seed // len(KINDS) % len(every)]
        yield task(network, file, "shuffled", shuffled, seed)


def by_rules(networks: list[Stored]) -> Iterator[Task]:
    """The golden outputs of every built network, reached without the library."""
    for network in networks:
        if network.counterpart.pairs:
            yield task(network, "arrays.npz", "by hand", by_rule)


def by_rule(network: Stored, file: str) -> Verdict:
    """The outputs of the counterpart with what the layout rules give."""
    error = network.error(filled(network))
    outcome = EXACT if error <= LIMIT else WRONG
    return Verdict(f"{network.framework}/{network.name}", file, "by hand", outcome, error=error)


def filled(network: Stored) -> nn.Module:
    """The counterpart with what the layout rules give."""
    module = network.counterpart.build()
    module.load_state_dict(by_hand(module, network.arrays, network.counterpart.pairs, network.framework))
    return module


def traps(networks: list[Stored]) -> Iterator[Task]:
    """Modules that compute something else; those whose file does not say so are given golden outputs."""
    by_name = {f"{network.framework}/{network.name}": network for network in networks}
    for trap, (names, _) in TRAPS.items():
        for network in (by_name[name] for name in names if name in by_name):
            for file in files(network):
                if file in WITH_GRAPH or file == WITHOUT:
                    yield task(network, file, "traps", trapped, trap)


def trapped(network: Stored, file: str, trap: str) -> Verdict:
    """Port into a counterpart that was changed by a trap."""
    _, change = TRAPS[trap]
    check(network, change)
    return attempt(network, file, "traps", change=change, has_golden=file == WITHOUT)


def check(network: Stored, change: Callable[[nn.Module], None]) -> None:
    """Raise an error if the right weights would give the right outputs in spite of the change."""
    module = filled(network)
    change(module)
    if network.error(module) <= 10 * LIMIT:
        raise ValueError(f"{network.name} is no trap")


def plain(network: Stored, file: str, mode: str) -> Verdict:
    """Port into the counterpart as it is."""
    return attempt(network, file, mode, has_golden=mode == "golden")


def tasks(mode: str, networks: list[Stored], count: int) -> Iterator[Task]:
    """Every port of one mode."""
    if mode == "renamed":
        yield from renamings(networks, count)
    elif mode == "shuffled":
        yield from shufflings(networks, count)
    elif mode == "by hand":
        yield from by_rules(networks)
    elif mode == "scaffold":
        yield from scaffolds(networks, files, PUBLIC)
    elif mode == "traps":
        yield from traps(networks)
    else:
        kind = {"other names": "renamed", "lying names": "lying"}.get(mode, "")
        for network in judged(networks, mode):
            for file in files(network, kind=kind):
                yield task(network, file, mode, plain, mode)


def run(mode: str, networks: list[Stored], count: int, num_workers: int) -> list[Verdict]:
    """The verdicts of one mode."""
    if mode == "peers":
        return [*judging.weightbridge(networks), *judging.onnx_converters()]
    return list(verdicts(tasks(mode, networks, count), num_workers=num_workers))


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="python -m exams.porting", description=__doc__)
    parser.add_argument("--mode", nargs="+", default=list(MODES), choices=MODES, help="how the networks are ported")
    parser.add_argument("--only", nargs="+", help="networks whose names contain one of these texts")
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
        for mode in options.mode:
            found = run(mode, networks, options.renamings, options.workers)
            sys.stdout.write(report.summary(mode, found) + "\n")
            modes = {verdict.mode for verdict in found}
            kept = [each for each in kept if each.mode not in modes or options.only] + found
        if options.only:
            return
        RESULTS.write_text(json.dumps([asdict(verdict) for verdict in kept], indent=1))
    report.write(kept, stored(NETWORKS), REPORT)


if __name__ == "__main__":
    main()
