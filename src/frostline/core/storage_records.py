"""What a cache may store of a frozen part, with what each alternative costs: the plan that `Split.plan` makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frostline.core.units import seconds_text, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_CACHE, FRONTIER = "no cache", "the frontier"
# Of alternatives that take nearly the same time, the one that stores least: times of a busy machine differ by more.
_AS_QUICK = 1.03
# To store less than the frontier, the model is recorded and proven once more, and a loop of one's own must ask for it:
# a tenth of the bytes is not worth that.
_LEAST_SAVED = 0.2
_SHOWN = 2  # names


@dataclass(frozen=True)
class CallCost:
    """One frozen call: `name`, milliseconds and bytes of what it leaves, both per sample, and what becomes of it.

    Attributes:
        name: As the frontier names tensors.
        ms: Milliseconds per sample, measured.
        bytes: Of its results, per sample.
        use: `stored`, `computed again` in every step, or `not needed` once the rows are stored.
    """

    name: str
    ms: float
    bytes: int
    use: str


@dataclass(frozen=True)
class StorageCosts:
    """Seconds per sample on this machine.

    Attributes:
        batch_size: Samples of a measured step.
        read_s: To read a sample of the dataset; 0 where there is none.
        frozen_s: To run the frozen part once, as a fill does.
        uncached_s: Of a training step of the whole model: forward, backward, and an update by AdamW.
        head_s: Of a training step of the head.
        gather_byte_s: To gather a byte of stored features.
        step_s: What the training loop takes for each step beside; 0 where it is not known.
        proof_s: Of a fill, beside its rows: rows are computed again in small batches, and the model is recorded again.
    """

    batch_size: int
    read_s: float
    frozen_s: float
    uncached_s: float
    head_s: float
    gather_byte_s: float
    step_s: float = 0.0
    proof_s: float = 0.0

    def loop_s(self, samples: int) -> float:
        """Seconds of the loop itself in an epoch."""
        return self.step_s * -(-samples // self.batch_size)


@dataclass(frozen=True)
class Alternative:
    """One choice of what to store, with its cost.

    Attributes:
        name: `no cache`, `the frontier`, or the values that are stored.
        is_cached: False for training without a cache.
        stored: Names of the stored values.
        again: Names of the calls that the head makes in every step, the slowest first.
        bytes_per_sample: On the disk.
        epoch_s: Seconds per epoch.
        fill_s: Seconds to fill the cache, once.
        total_s: Of the whole run.
        pays_after: Epochs after which the fill has paid; None: never.
    """

    name: str
    is_cached: bool
    stored: tuple[str, ...]
    again: tuple[str, ...]
    bytes_per_sample: int
    epoch_s: float
    fill_s: float
    total_s: float
    pays_after: int | None
    points: frozenset[Any] = field(default=frozenset(), repr=False)
    blocks: frozenset[Any] = field(default=frozenset(), repr=False)

    @property
    def addresses(self) -> tuple[frozenset[Any], frozenset[Any]]:
        """What a new recording needs of it: addresses of values, and the calls of modules in which they are made."""
        return self.points, self.blocks


@dataclass(frozen=True)
class StoragePlan:
    """The alternatives of a split, the quickest that fits the disk first; `print` it.

    Attributes:
        samples: Of an epoch.
        epochs: Of the run.
        budget_bytes: What the cache may take on the disk; None: anything.
        costs: What they are computed from.
        calls: All frozen calls, in the order in which they run, under the best alternative with a cache.
        alternatives: In order.
        chosen: The alternative to follow.
        over_budget: Names of the alternatives that the disk has no room for.
        note: Why there is no more to choose from; "" if the frozen calls could be measured.
    """

    samples: int
    epochs: int
    budget_bytes: int | None
    costs: StorageCosts
    calls: tuple[CallCost, ...]
    alternatives: tuple[Alternative, ...]
    chosen: Alternative
    over_budget: tuple[str, ...] = ()
    note: str = ""

    @property
    def best_cached(self) -> Alternative | None:
        """The best alternative with a cache: the chosen one, if it has one; None where the disk has no room."""
        if self.chosen.is_cached:
            return self.chosen
        return least_stored([own for own in self.alternatives if own.is_cached])

    def _verdict(self) -> list[str]:
        """What to do, and what it brings over the whole run."""
        chosen, cached = self.chosen, self.best_cached
        plain = next((own for own in self.alternatives if not own.is_cached), None)
        run = f"{self.epochs} epoch{'s'[self.epochs == 1 :]} of {self.samples:,} samples take{'s'[self.epochs > 1 :]}"
        if not chosen.is_cached:
            with_one = f", {seconds_text(cached.total_s)} with one, which {_pays(cached)}" if cached else ""
            if cached and chosen.total_s / _AS_QUICK <= cached.total_s <= chosen.total_s:
                with_one = f", {seconds_text(cached.total_s)} with one: too small a gain to store anything for it"
            return [f"Plan:      train without a cache: {run} {seconds_text(chosen.total_s)}{with_one}"]
        less = " that stores less than the frontier" if chosen.again else ""
        instead = f" instead of {seconds_text(plain.total_s)}" if plain else ""
        lines = [f"Plan:      use a cache{less}: {run} {seconds_text(chosen.total_s)}{instead}, with the fill"]
        if chosen.again:
            lines.append(f"           fit(cache='auto') does; else split.follow(split.plan({self.samples}, "
                         f"epochs={self.epochs})), and fill that one")  # fmt: skip
        return lines

    def __str__(self) -> str:
        lines = self._verdict()
        others = [own for own in self.alternatives if own.again and own is not self.chosen]
        for own in self.alternatives:
            if own not in others[1:]:  # what else there is to choose from differs in detail: it is in `alternatives`
                mark = "->" if own is self.chosen else "  "
                lines.append(f"  {mark} {title_of(own)}: {_figures(own)}")
        lines += [f"     {name}: does not fit into {size_text(self.budget_bytes or 0)}" for name in self.over_budget]
        return "\n".join([*lines, *([f"  ({self.note})"] if self.note else [])])


def _figures(own: Alternative) -> str:
    text = f"{seconds_text(own.epoch_s)} per epoch"
    if not own.is_cached:
        return text
    return f"{text}, {size_text(own.bytes_per_sample)} per sample, filled in {seconds_text(own.fill_s)}, {_pays(own)}"


def _pays(own: Alternative) -> str:
    return "never pays" if own.pays_after is None else f"pays after {own.pays_after} epoch{'s'[own.pays_after == 1 :]}"


def title_of(own: Alternative) -> str:
    """What the alternative stores and computes, for people."""
    if not own.is_cached:
        return own.name
    if not own.again:
        return f"store {own.name}"
    count = len(own.again)
    again = f"compute {count} call{'s'[count == 1 :]} again in every step ({_few(own.again)})"
    return f"store {_few(own.stored)}, and {again}"


def _few(names: Sequence[str]) -> str:
    """The first names without the path that all have in common."""
    paths = [name.split(".") for name in names]
    shared = 0
    while len(names) > 1 and len({tuple(path[: shared + 1]) for path in paths}) == 1:
        shared += 1
    shown = [".".join(path[shared:]) for path in paths[:_SHOWN]]
    prefix = f"in {'.'.join(paths[0][:shared])}: " if shared else ""
    return prefix + ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def least_stored(alternatives: list[Alternative]) -> Alternative | None:
    """Of those that are about as quick as the quickest, the one that stores least."""
    if not alternatives:
        return None
    quickest = min(own.total_s for own in alternatives)
    good = [own for own in alternatives if own.total_s <= _AS_QUICK * quickest]
    least = min(good, key=lambda own: (own.bytes_per_sample, own.total_s))
    plain = [own for own in good if own.is_cached and not own.again]
    is_enough = least.is_cached and plain and least.bytes_per_sample > (1 - _LEAST_SAVED) * plain[0].bytes_per_sample
    return plain[0] if is_enough else least
