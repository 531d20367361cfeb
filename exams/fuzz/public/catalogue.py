"""All doors, calls drawn at random from them, and the smallest call with the same fault."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from exams.fuzz.public import (
    caching_doors,
    command_doors,
    data_doors,
    layer_doors,
    port_doors,
    run_doors,
    splitting_doors,
    sweep_doors,
    training_doors,
)
from exams.fuzz.public.doors import Door
from exams.fuzz.public.pools import Call, Pool
from exams.fuzz.public.verdicts import AMBIENT, Verdict

_MODULES = (
    layer_doors,
    splitting_doors,
    caching_doors,
    training_doors,
    data_doors,
    command_doors,
    port_doors,
    run_doors,
    sweep_doors,
)
DOORS: dict[str, Door] = {door.name: door for module in _MODULES for door in module.DOORS}
_ODD = (0, 1, 1, 1, 2, 2)  # how many odd values a call has, as often
_AMBIENT = 0.1  # of the calls come from an odd state of the process


def pools_of(door: Door) -> dict[str, Pool]:
    """The pool of each parameter, and of the state of the process."""
    return {**door.pools, "ambient": AMBIENT}


def defaults_of(door: Door) -> dict[str, str]:
    """The labels of the plainest call."""
    return {name: pool.default for name, pool in pools_of(door).items()}


def parse(text: str) -> Call:
    """The call that prints like this."""
    return Call.parse(text, defaults_of(DOORS[text.split("(")[0].strip()]))


def drawn(door: Door, source: random.Random) -> Call:
    """A call with mostly sane values, and none, one or two odd ones."""
    labels = {name: source.choice([pool.default, *pool.sane]) for name, pool in door.pools.items()}
    able = [name for name, pool in door.pools.items() if pool.odd]
    for name in source.sample(able, min(len(able), source.choice(_ODD))):
        labels[name] = source.choice(list(door.pools[name].odd))
    labels["ambient"] = source.choice(list(AMBIENT.odd)) if source.random() < _AMBIENT else "plain"
    return Call(door.name, labels)


def single(door: Door) -> Iterator[Call]:
    """Every value once, all others plain."""
    plain = defaults_of(door)
    yield Call(door.name, plain)
    for name, pool in pools_of(door).items():
        for label in (*pool.sane, *pool.odd):
            if label != plain[name]:
                yield Call(door.name, {**plain, name: label})


def smallest(call: Call, key: tuple[str, str, str], run: Callable[[Door, Call], Verdict]) -> Call:
    """The call with as many plain values as leave the fault what it is."""
    door = DOORS[call.door]
    for name, label in defaults_of(door).items():
        if call.labels[name] == label:
            continue
        plainer = Call(call.door, {**call.labels, name: label})
        fault = run(door, plainer).fault
        if fault is not None and fault.key == key:
            call = plainer
    return call
