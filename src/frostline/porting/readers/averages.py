"""Files with weights and their moving averages: selection of one of the two, and the weight of each average.

References:
    PyTorch, `torch.optim.swa_utils.AveragedModel` (`module.`, `n_averaged`); timm, `ModelEmaV2` (`module.`);
    CompVis latent-diffusion, `ldm/modules/ema.py` (`model_ema.`, names without dots).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING

from frostline.core.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from frostline.porting.readers.weight_file import WeightFile

# The attributes in which training loops and parallel wrappers keep the model: prefixes of every name.
WRAPPERS = ("module", "model", "net", "network", "_forward_module", "_module", "pl_module")
_AVERAGE_ENTRIES = ("ema", "model_ema", "ema_model", "swa_model", "averaged_model", "module_ema")
_COUNTERS = ("decay", "num_updates", "n_averaged", "initted", "step", "updates")  # entries beside the averages
_MAX_PREFIXES = 64
_MAX_GROUPS = 8  # groups of averages beside the weights
_SAMPLE = 64  # number of names from which the naming scheme of the averages is determined
_SHOWN = 3
REPLACED_BY_AVERAGE = "replaced by its moving average"


@dataclass(frozen=True)
class Selection:
    """The tensors that were selected from a table of names.

    Attributes:
        own: The name in the network by the full name in the file; the name of an average is that of its weight.
        dropped: The drop class of every other tensor, by full name.
        notes: A sentence for each choice that was made.
    """

    own: Mapping[str, str]
    dropped: Mapping[str, str]
    notes: tuple[str, ...]


def is_average(name: str) -> bool:
    """Whether an entry of this name holds moving averages."""
    return name in _AVERAGE_ENTRIES or "ema" in name.lower().split("_")


def select(file: WeightFile, names: Sequence[str], key: str | None = None) -> Selection:
    """Select the tensors of one network.

    Args:
        file: The file, for the error.
        names: The names of all tensors; their parts are joined by dots.
        key: The prefix of the wanted names. With None the weights are selected and their averages dropped.

    Raises:
        PortError: If no name begins with the key.
    """
    if key is None:
        return _weights(names)
    start = f"{key}."
    tails = {name: name.removeprefix(start) for name in names if name.startswith(start)}
    if not tails:
        known = sorted({name.partition(".")[0] for name in names if "." in name})
        raise file.refused(
            f"The file has no weights under {key!r}.", f"{len(names)} tensors, such as {nearest(start, names)}",
            f"leave out key=, or pass a prefix of the names: {nearest(key, known)}." if known else
            "leave out key=: no name in the file has a prefix.",
        )  # fmt: skip
    rest = [name for name in names if name not in tails]
    if is_average(key.rpartition(".")[2]):
        return _averages(key, tails, rest)
    note = f"The tensors whose names begin with {start!r} were taken."
    return Selection(tails, dict.fromkeys(rest, "another entry of the checkpoint"), (note,))


def _weights(names: Sequence[str]) -> Selection:
    """Select everything except averages of weights in the same file; averages without weights count as weights."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        first, dot, tail = name.partition(".")
        if dot and is_average(first):
            groups.setdefault(first, {})[name] = tail
    averages: dict[str, list[str]] = {}
    largest = sorted(groups.items(), key=lambda item: -len(item[1]))[:_MAX_GROUPS]
    rest = [name for name in names if name.partition(".")[0] not in groups and name not in _COUNTERS]
    for first, tails in largest:
        if rest and (first in _AVERAGE_ENTRIES or len(_match_weights(tails, rest)) == len(tails)):
            averages[first] = list(tails)
    dropped = {name: "moving average" for group in averages.values() for name in group}
    left = [name for name in names if name not in dropped]
    firsts = {name.partition(".")[0] for name in left if name not in _COUNTERS}
    if firsts and all(first == "module" or is_average(first) for first in firsts):
        dropped |= {name: "counter" for name in left if name in _COUNTERS}
    notes = tuple(
        f"{len(group)} tensors are moving averages of the weights and were left out (key={first!r} selects "
        "the averages)."
        for first, group in averages.items()
    )
    return Selection({name: name for name in names if name not in dropped}, dropped, notes)


def _averages(key: str, tails: Mapping[str, str], rest: Sequence[str]) -> Selection:
    """Select averages under the names of their weights; a note lists weights without an average, which are kept."""
    dropped = {name: "moving average" for name in rest if is_average(name.partition(".")[0])}
    weights = [name for name in rest if name not in dropped]
    counters = {name for name, tail in tails.items() if tail in _COUNTERS} if weights else set[str]()
    dropped |= dict.fromkeys(counters, "counter")
    tails = {name: tail for name, tail in tails.items() if name not in counters}
    weight_of = _match_weights(tails, weights)
    if not weight_of:
        dropped |= dict.fromkeys(weights, "another entry of the checkpoint")
        return Selection(tails, dropped, (f"The weights were taken from the moving average {key!r}.",))
    replaced = set(weight_of.values())
    dropped |= dict.fromkeys(replaced, REPLACED_BY_AVERAGE)
    unaveraged = [name for name in weights if name not in replaced]
    own = {**{name: name for name in unaveraged}, **{name: weight_of.get(name, tail) for name, tail in tails.items()}}
    note = f"{len(tails)} tensors were taken from the moving average {key!r}"
    if unaveraged:
        names = ", ".join(unaveraged[:_SHOWN])
        note += f"; {len(unaveraged)} have no average and were taken unaveraged, such as {names}"
    return Selection(own, dropped, (f"{note}.",))


def _match_weights(tails: Mapping[str, str], weights: Collection[str]) -> dict[str, str]:
    """The weight of each average: the weight with the same name except for a prefix, or except for the dots."""
    known = {name: name for name in weights}
    plain = {} if any("." in tail for tail in tails.values()) else {name.replace(".", ""): name for name in weights}

    def pairs(start: str, own: str, names: Mapping[str, str]) -> dict[str, str]:
        found = {name: known.get(start + tail.removeprefix(own)) for name, tail in names.items()}
        if plain and not own:
            found = {name: one or plain.get(start.replace(".", "") + names[name]) for name, one in found.items()}
        return {name: one for name, one in found.items() if one is not None}

    some = dict(islice(tails.items(), 0, None, max(1, len(tails) // _SAMPLE)))
    ways = product(_prefixes(weights), ("", *(f"{holder}." for holder in WRAPPERS)))
    return pairs(*max(ways, key=lambda way: len(pairs(*way, some))), tails)


def _prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes of names up to the second dot: first the empty one, then the most frequent."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), 3)))
    return ["", *(start for start, _ in counts.most_common(_MAX_PREFIXES))]
