"""What to store of a frozen part, and what to compute again in every step: alternatives, and what each costs here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import store_rates
from frostline.core.arguments import as_count, as_number
from frostline.core.doors import out_of_memory
from frostline.core.restore import kept_gradients
from frostline.core.storage_records import (
    FRONTIER,
    NO_CACHE,
    Alternative,
    CallCost,
    StorageCosts,
    StoragePlan,
    least_stored,
    title_of,
)
from frostline.core.timing import interleaved
from frostline.splitting.calls.containers import tensors_in
from frostline.splitting.plan.frozen_calls import frozen_calls, frozen_modules_as_calls
from frostline.splitting.plan.samples import SMALL, batch_of
from frostline.splitting.plan.store_or_compute import Choice, choices, frontier_choice
from frostline.splitting.uncached import kept_model

if TYPE_CHECKING:
    from frostline.splitting.candidate import Candidate
    from frostline.splitting.plan.frozen_calls import FrozenCalls

_ROUNDS = 15
_BUDGET_S = 2.0  # of the measured steps: after it, three rounds are enough
# Passes of two samples that take as long as what a fill does beside its rows: 34 and 36 on resnet18 and mobilenetv3 at
# 64 px, processor time on one thread of an EPYC.
_PROOF_PASSES = 35
_SHOWN = 4  # calls, by name, of those that are computed again


def storage_plan(
    candidate: Candidate, samples: int, *, epochs: int, batch_size: int, read_s: float, budget_bytes: int | None,
    missing: int | None = None, step_s: float = 0.0,
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
        step_s: Seconds of the training loop in each step, beside the model.

    Raises:
        DataError: If an argument is not a number of that kind.
    """
    call = "Split.plan"
    samples, epochs, batch_size = (
        as_count(call, name, own)
        for name, own in (("samples", samples), ("epochs", epochs), ("batch_size", batch_size))
    )
    budget_bytes = None if budget_bytes is None else as_count(call, "budget_bytes", budget_bytes, least=0)
    missing = None if missing is None else as_count(call, "missing", missing, least=0)
    read_s, step_s = (as_number(call, name, own, least=0.0) for name, own in (("read_s", read_s), ("step_s", step_s)))
    costs = replace(_measured_costs(candidate, batch_size, read_s), batch_size=batch_size, step_s=step_s)
    calls, note = _calls_of(candidate)
    byte_s = costs.gather_byte_s + 1 / (store_rates.FILL_BYTES_PER_S * max(1, epochs))
    share = _share(costs, calls)
    price = _Price(costs, samples, epochs, samples if missing is None else missing)
    alternatives = [price.uncached()]
    if calls is None:
        alternatives.append(price.whole_frontier(candidate))
    else:
        alternatives.append(price.cached(FRONTIER, calls, frontier_choice(calls), share))
        for choice in choices(calls, byte_s, share):
            own = price.cached(_names(calls, choice), calls, choice, share)
            if (
                own.again
                and _stores_features(calls, choice)
                and all(own.bytes_per_sample < other.bytes_per_sample for other in alternatives if other.is_cached)
            ):
                alternatives.append(own)
    fitting = [own for own in alternatives if budget_bytes is None or own.bytes_per_sample * samples <= budget_bytes]
    chosen = least_stored(fitting)
    assert chosen is not None  # training without a cache fits any disk
    ordered = tuple(sorted(fitting, key=lambda own: own.total_s))
    plan = StoragePlan(samples, epochs, budget_bytes, costs, (), ordered, chosen,
                       tuple(title_of(own) for own in alternatives if own not in fitting), note)  # fmt: skip
    return _with_calls(plan, calls) if calls else plan


def _stores_features(calls: FrozenCalls, choice: Choice) -> bool:
    """True unless nothing but inputs is stored: that would be training without a cache under another name."""
    return any(calls.values[at].call is not None and calls.values[at].bytes for at in choice.stored)


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
        epoch_s = self.costs.loop_s(self.samples) + self.samples * (self.costs.read_s + self.costs.uncached_s)
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
        made_s = [at for at in choice.again if calls.calls[at].seconds]  # others run in every step all the same
        slowest = sorted(made_s, key=lambda at: -calls.calls[at].seconds)
        return replace(plain, again=tuple(calls.calls[at].name for at in slowest), points=points, blocks=blocks)

    def _cached(self, name: str, size: int, again_s: float, stored: tuple[str, ...]) -> Alternative:
        own = self.costs
        epoch_s = own.loop_s(self.samples) + self.samples * (own.head_s + again_s + size * own.gather_byte_s)
        row_s = own.read_s + own.frozen_s + store_rates.FILL_ROW_S + size / store_rates.FILL_BYTES_PER_S
        fill_s = self.missing * row_s + (own.proof_s if self.missing else 0.0)
        saved = self.uncached().epoch_s - epoch_s
        pays = math.ceil(fill_s / saved) if saved > 0 else None
        return Alternative(name, True, stored, (), size, epoch_s, fill_s, fill_s + self.epochs * epoch_s, pays)


def _share(costs: StorageCosts, calls: FrozenCalls | None) -> float:
    """What a frozen call takes in a training step, as a share of what it took when it was measured alone."""
    if calls is None or not calls.seconds:
        return 1.0
    return min(2.0, max(0.5, (costs.uncached_s - costs.head_s) / calls.seconds))


def _calls_of(candidate: Candidate) -> tuple[FrozenCalls | None, str]:
    try:
        found = frozen_calls(candidate.plan)
    except Exception as error:  # whatever a model does in a larger batch: the frontier can be stored all the same
        return None, f"the frozen calls were not measured: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
    if candidate.plan.settings.replayed:
        return frozen_modules_as_calls(found), ""
    if len(found.needed) < len(candidate.plan.frontier.entries):
        return None, "the head reads tensors that are made in training mode only: they are stored"
    return found, ""


def _measured_costs(candidate: Candidate, batch_size: int, read_s: float) -> StorageCosts:
    """Steps of the model and of its head, and passes of the frozen part, in turns."""
    try:
        return _costs_at(candidate, batch_size, read_s)
    except RuntimeError as error:
        if batch_size == 1 or out_of_memory(error) is None:
            raise
    return _measured_costs(candidate, batch_size // 2, read_s)


def _costs_at(candidate: Candidate, batch_size: int, read_s: float) -> StorageCosts:
    model, head = candidate.model, candidate.head
    inputs, few = batch_of(candidate.plan.recorded, batch_size), batch_of(candidate.plan.recorded, SMALL)
    with kept_model(model), kept_gradients(model), torch.enable_grad():
        features = candidate.extract(inputs)
        head.train()
        trained = [own for own in model.parameters() if own.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0)  # weights are put back all the same

        def whole() -> None:
            _step(candidate.reference(inputs), optimizer)

        def upper() -> None:
            _step(head.recorded(*features), optimizer)

        def lower() -> None:
            candidate.extract(inputs)

        def small() -> None:
            candidate.extract(few)

        times = interleaved([whole, upper, lower, small], rounds=_ROUNDS, budget_s=_BUDGET_S)
    uncached_s, head_s, frozen_s = (median(own) / batch_size for own in times[:3])
    gather_byte_s, proof_s = store_rates.gather_byte_s(), _PROOF_PASSES * median(times[3])
    return StorageCosts(batch_size, read_s, frozen_s, uncached_s, head_s, gather_byte_s, proof_s=proof_s)


def _step(outputs: Any, optimizer: torch.optim.Optimizer) -> None:
    found = [tensor for tensor in tensors_in(outputs) if tensor.requires_grad and tensor.is_floating_point()]
    torch.stack([tensor.float().mean() for tensor in found]).sum().backward()
    if not any(own.grad is not None and own.grad.is_sparse for own in optimizer.param_groups[0]["params"]):
        optimizer.step()  # AdamW takes no sparse gradients
    optimizer.zero_grad()
