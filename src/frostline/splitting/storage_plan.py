"""What to store of a frozen part, and what to compute again in every step: alternatives, and what each costs here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import store_rates
from frostline.core.restore import kept_gradients
from frostline.core.timing import interleaved
from frostline.core.units import seconds_text, size_text
from frostline.splitting.calls.containers import tensors_in
from frostline.splitting.plan.frozen_calls import frozen_calls
from frostline.splitting.plan.samples import batch_of
from frostline.splitting.plan.store_or_compute import Choice, choices, frontier_choice
from frostline.splitting.uncached import kept_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.splitting.calls.addresses import Frame, Point
    from frostline.splitting.candidate import Candidate
    from frostline.splitting.plan.frozen_calls import FrozenCalls

_ROUNDS = 5
_BUDGET_S = 3.0  # of the measured steps: after it, three rounds are enough
# Of alternatives that take nearly the same time, the one that stores least: times of a busy machine differ by more.
_AS_QUICK = 1.03
NO_CACHE, FRONTIER = "no cache", "the frontier"
_SHOWN = 4  # calls, by name, of those that are computed again


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
        uncached_s: Of a training step of the whole model: forward and backward.
        head_s: Of a training step of the head.
        gather_byte_s: To gather a byte of stored features.
    """

    batch_size: int
    read_s: float
    frozen_s: float
    uncached_s: float
    head_s: float
    gather_byte_s: float


@dataclass(frozen=True)
class Alternative:
    """One way to train, with its cost.

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
    points: frozenset[Point] = field(default=frozenset(), repr=False)
    blocks: frozenset[Frame] = field(default=frozenset(), repr=False)

    @property
    def addresses(self) -> tuple[frozenset[Point], frozenset[Frame]]:
        """What a recording has to know of it."""
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
        return _least_stored([own for own in self.alternatives if own.is_cached])

    def __str__(self) -> str:
        verdict = "store less than the frontier" if self.chosen.again else "store the frontier"
        lines = [
            f"Plan:      {verdict if self.chosen.is_cached else 'no cache: training is quicker without one'} "
            f"({self.epochs} epochs of {self.samples:,} samples, batches of {self.costs.batch_size})"
        ]
        for own in self.alternatives:
            mark = "->" if own is self.chosen else "  "
            lines.append(f"  {mark} {_title(own)}: {_figures(own)}")
        slowest = sorted(self.calls, key=lambda call: -call.ms)[:_SHOWN]
        lines += [f"     call {call.name}: {call.ms:.3f} ms and {size_text(call.bytes)} per sample, {call.use}"
                  for call in slowest]  # fmt: skip
        lines += [f"     {name}: does not fit into {size_text(self.budget_bytes or 0)}" for name in self.over_budget]
        return "\n".join([*lines, *([f"  ({self.note})"] if self.note else [])])


def _figures(own: Alternative) -> str:
    text = f"{seconds_text(own.epoch_s)} per epoch"
    if not own.is_cached:
        return text
    pays = "never pays" if own.pays_after is None else f"pays after {own.pays_after} epoch{'s'[own.pays_after == 1 :]}"
    return f"{text}, {size_text(own.bytes_per_sample)} per sample, filled in {seconds_text(own.fill_s)}, {pays}"


def _title(own: Alternative) -> str:
    if not own.is_cached:
        return own.name
    if not own.again:
        return f"store {own.name}"
    count = len(own.again)
    return f"store {own.name}, and compute {count} call{'s'[count == 1 :]} again in every step ({_few(own.again)})"


def _few(names: Sequence[str]) -> str:
    """The first names without the path that all have in common."""
    paths = [name.split(".") for name in names]
    shared = 0
    while len(names) > 1 and len({tuple(path[: shared + 1]) for path in paths}) == 1:
        shared += 1
    shown = [".".join(path[shared:]) for path in paths[:_SHOWN]]
    prefix = f"in {'.'.join(paths[0][:shared])}: " if shared else ""
    return prefix + ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def storage_plan(
    candidate: Candidate, samples: int, *, epochs: int, batch_size: int, read_s: float, budget_bytes: int | None,
    missing: int | None = None,
) -> StoragePlan:  # fmt: skip
    """Measure the frozen calls and a step of the model and of its head, and compare the alternatives.

    Args:
        candidate: The split.
        samples: Of an epoch.
        epochs: Of the run.
        batch_size: Of a step.
        read_s: Seconds to read a sample of the dataset.
        budget_bytes: What the cache may take on the disk.
        missing: Samples whose rows are not stored yet; None: all.
    """
    costs = _measured_costs(candidate, batch_size, read_s)
    calls, note = _calls_of(candidate)
    byte_s = costs.gather_byte_s + 1 / (store_rates.FILL_BYTES_PER_S * max(1, epochs))
    share = _share(costs, calls)
    price = _Price(costs, samples, epochs, samples if missing is None else missing)
    ways = [price.uncached(), price.cached(FRONTIER, calls, frontier_choice(calls), share)] if calls else [
        price.uncached(), price.whole_frontier(candidate)]  # fmt: skip
    for choice in choices(calls, byte_s, share) if calls else ():
        own = price.cached(_names(calls, choice), calls, choice, share)
        if own.again and all(own.bytes_per_sample < other.bytes_per_sample for other in ways if other.is_cached):
            ways.append(own)
    fitting = [own for own in ways if budget_bytes is None or own.bytes_per_sample * samples <= budget_bytes]
    chosen = _least_stored(fitting)
    assert chosen is not None  # training without a cache fits any disk
    ordered = tuple(sorted(fitting, key=lambda own: own.total_s))
    plan = StoragePlan(samples, epochs, budget_bytes, costs, (), ordered, chosen,
                       tuple(_title(own) for own in ways if own not in fitting), note)  # fmt: skip
    return _with_calls(plan, calls) if calls else plan


def _least_stored(ways: list[Alternative]) -> Alternative | None:
    """Of those that are about as quick as the quickest, the one that stores least."""
    if not ways:
        return None
    quickest = min(own.total_s for own in ways)
    return min((own for own in ways if own.total_s <= _AS_QUICK * quickest), key=lambda own: (
        own.bytes_per_sample, own.total_s))  # fmt: skip


def _with_calls(plan: StoragePlan, calls: FrozenCalls) -> StoragePlan:
    best = plan.best_cached
    again, stored = set(best.again if best else ()), set(best.stored if best else ())
    made = {value.call: value.name for value in calls.values}
    uses = (
        "computed again" if call.name in again else "stored" if made.get(at) in stored else "not needed"
        for at, call in enumerate(calls.calls)
    )  # fmt: skip
    costs = (CallCost(call.name, 1e3 * call.seconds, call.bytes, use)
             for call, use in zip(calls.calls, uses, strict=True))  # fmt: skip
    return replace(plan, calls=tuple(costs))


def _names(calls: FrozenCalls, choice: Choice) -> str:
    """The stored values of a choice; those of no size go without saying."""
    values = sorted((calls.values[at] for at in choice.stored), key=lambda value: -(value.bytes or 0))
    names = [value.name for value in values if value.bytes]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


@dataclass(frozen=True)
class _Price:
    """Prices of alternatives for one run."""

    costs: StorageCosts
    samples: int
    epochs: int
    missing: int

    def uncached(self) -> Alternative:
        epoch_s = self.samples * (self.costs.read_s + self.costs.uncached_s)
        return Alternative(NO_CACHE, False, (), (), 0, epoch_s, 0.0, self.epochs * epoch_s, None)

    def whole_frontier(self, candidate: Candidate) -> Alternative:
        size = sum(tensor.bytes_per_sample for tensor in candidate.frontier)
        return self._cached(FRONTIER, size, 0.0, tuple(tensor.name for tensor in candidate.frontier))

    def cached(self, name: str, calls: FrozenCalls, choice: Choice, share: float) -> Alternative:
        names = tuple(calls.values[at].name for at in choice.stored)
        plain = self._cached(name, choice.bytes(calls), share * choice.again_s(calls), names)
        made = set(choice.again)
        points = frozenset(point for value in calls.values if value.call in made for point in value.points)
        blocks = frozenset(block for at in made if (block := calls.calls[at].block) is not None)
        slowest = sorted(choice.again, key=lambda at: -calls.calls[at].seconds)
        return replace(plain, again=tuple(calls.calls[at].name for at in slowest), points=points, blocks=blocks)

    def _cached(self, name: str, size: int, again_s: float, stored: tuple[str, ...]) -> Alternative:
        own = self.costs
        epoch_s = self.samples * (own.head_s + again_s + size * own.gather_byte_s)
        row_s = own.read_s + own.frozen_s + store_rates.FILL_ROW_S + size / store_rates.FILL_BYTES_PER_S
        fill_s, saved = self.missing * row_s, self.uncached().epoch_s - epoch_s
        pays = math.ceil(fill_s / saved) if saved > 0 else None
        return Alternative(name, True, stored, (), size, epoch_s, fill_s, fill_s + self.epochs * epoch_s, pays)


def _share(costs: StorageCosts, calls: FrozenCalls | None) -> float:
    """What a frozen call takes in a training step, as a share of what it took when it was measured alone."""
    if calls is None or not calls.seconds:
        return 1.0
    return min(2.0, max(0.5, (costs.uncached_s - costs.head_s) / calls.seconds))


def _calls_of(candidate: Candidate) -> tuple[FrozenCalls | None, str]:
    if candidate.plan.settings.replayed:
        return None, "the head runs the model's own forward: frozen calls are stored or the cache is left out"
    try:
        found = frozen_calls(candidate.plan)
    except Exception as error:  # whatever a model does in a larger batch: the frontier can be stored all the same
        return None, f"the frozen calls were not measured: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    if len(found.needed) < len(candidate.plan.frontier.entries):
        return None, "the head reads tensors that are made in training mode only: they are stored"
    return found, ""


def _measured_costs(candidate: Candidate, batch_size: int, read_s: float) -> StorageCosts:
    """Steps of the model and of its head, and passes of the frozen part, in turns."""
    model, head = candidate.model, candidate.head
    inputs = batch_of(candidate.plan.recorded, batch_size)
    with kept_model(model), kept_gradients(model), torch.enable_grad():
        features = candidate.extract(inputs)
        head.train()

        def whole() -> None:
            _backward(candidate.reference(inputs))

        def upper() -> None:
            _backward(head.recorded(*features))

        def lower() -> None:
            candidate.extract(inputs)

        times = interleaved([whole, upper, lower], rounds=_ROUNDS, budget_s=_BUDGET_S)
    uncached_s, head_s, frozen_s = (median(own) / batch_size for own in times)
    return StorageCosts(batch_size, read_s, frozen_s, uncached_s, head_s, store_rates.gather_byte_s())


def _backward(outputs: Any) -> None:
    found = [tensor for tensor in tensors_in(outputs) if tensor.requires_grad and tensor.is_floating_point()]
    torch.stack([tensor.float().mean() for tensor in found]).sum().backward()
