"""What the exam ports in each mode, and how it is judged."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from .build import NETWORKS
from .by_hand import by_hand
from .partials import headless
from .scaffolds import scaffolds
from .shuffling import KINDS, is_rewritable, shuffled
from .stored import LIMIT
from .traps import TRAPS, WITH_GRAPH, WITHOUT
from .trials import EXACT, WRONG, Verdict, attempt, renamed
from .workers import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from .stored import Stored

PUBLIC = NETWORKS.with_name("public")


def files(network: Stored, *, kind: str = "") -> list[str]:
    """Its files of a kind: as they were saved, under `renamed` or under `lying` names."""
    kinds = {name: next((each for each in ("renamed", "lying") if name.startswith(each)), "") for name in network.files}
    return [name for name, found in kinds.items() if found == kind]


def told(network: Stored, mode: str, *, kind: str = "") -> list[str]:
    """Those of its files whose ports of this mode say something."""
    return [name for name in files(network, kind=kind) if mode == "golden" or name not in network.counterpart.untold]


def judged(networks: list[Stored], mode: str) -> list[Stored]:
    """Those whose ports of this mode say something: some only with golden outputs."""
    return [network for network in networks if mode == "golden" or not network.counterpart.golden_only]


def task(network: Stored, file: str, mode: str, judge: Callable[..., Verdict | None], *arguments: object) -> Task:
    """A task that calls `judge` with the network, the file and the arguments."""
    return Task(f"{network.framework}/{network.name}", file, mode, partial(judge, network, file, *arguments))


def renamings(networks: list[Stored], count: int) -> Iterator[Task]:
    """So many ports into modules under random names, spread evenly over all files."""
    every = [
        (network, file)
        for network in judged(networks, "renamed")
        for file in told(network, "renamed")
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
        for file in told(network, "shuffled")
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
    elif mode == "partial":
        for network in judged(networks, mode):
            for file in told(network, mode) if network.counterpart.pairs else ():
                yield task(network, file, mode, headless)
    elif mode == "traps":
        yield from traps(networks)
    else:
        kind = {"other names": "renamed", "lying names": "lying"}.get(mode, "")
        for network in judged(networks, mode):
            for file in told(network, mode, kind=kind):
                yield task(network, file, mode, plain, mode)
