"""The frozen calls of a model with what each costs: seconds to compute a sample, bytes of what it leaves.

They form a graph: a value is made by one call from other values. What the head needs of it can be stored, or be
computed again in every step from values below it (`store_or_compute.py` chooses).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes
from frostline.core.timing import wait
from frostline.splitting.calls.containers import is_same
from frostline.splitting.calls.listener import uncompiled, wrapped
from frostline.splitting.parts.frontier import find_layout
from frostline.splitting.plan.samples import SMALL, batch_of
from frostline.splitting.recording.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from frostline.splitting.calls.addresses import Frame, Point
    from frostline.splitting.plan.graph_plan import Plan
    from frostline.splitting.recording.tensor_ledger import Producer

_ROUNDS = 3  # recordings whose shortest times count: the first one warms up
_MEMORY = 512 * 2**20  # bytes of all intermediate results of a measured batch; a recording keeps them
_MOST, _LEAST = 32, 4  # samples of a measured batch
# A model input is kept in memory while a cache is filled: larger ones (images) are read from the dataset instead.
_INPUT_BYTES = 16_384


@dataclass(frozen=True)
class FrozenCall:
    """A call of the frozen part.

    Attributes:
        name: Of the call: `layer3.1.conv1`, `layer2.add_1`.
        seconds: To compute it for one sample.
        bytes: Of what it leaves for one sample.
        reads: Values that it is computed from, as positions in `FrozenCalls.values`.
        again: True if the head can make the call and gets the same values.
        block: The call of the outermost frozen module around it, or None.
    """

    name: str
    seconds: float
    bytes: int
    reads: tuple[int, ...]
    again: bool
    block: Frame | None


@dataclass(frozen=True)
class FrozenValue:
    """A tensor of the frozen part.

    Attributes:
        name: As the frontier names it.
        points: All addresses that it has.
        call: The call that made it, as a position in `FrozenCalls.calls`; None for a model input.
        bytes: For one sample; 0 if it is the same for all. None if it cannot be stored per sample.
    """

    name: str
    points: frozenset[Point]
    call: int | None
    bytes: int | None


@dataclass(frozen=True)
class FrozenCalls:
    """The graph of the frozen calls, as a few samples show it.

    Attributes:
        calls: In the order in which they ran.
        values: What they made.
        needed: The values that the head reads when everything that it reads is stored.
        samples: How many samples were measured at once.
    """

    calls: tuple[FrozenCall, ...]
    values: tuple[FrozenValue, ...]
    needed: tuple[int, ...]
    samples: int

    @property
    def seconds(self) -> float:
        """Of all calls, for one sample."""
        return sum(call.seconds for call in self.calls)


def frozen_calls(plan: Plan) -> FrozenCalls:
    """Measure the frozen calls of a split whose head is a graph, in inference mode; the model is left as it was."""
    small = _recorded(plan, batch_of(plan.recorded, SMALL))
    size = _size_of_batch(small)
    batch = batch_of(plan.recorded, size)
    large = _recorded(plan, batch)
    best = {point: producer.seconds for point, producer in _producers(large).items()}
    for _ in range(_ROUNDS - 1):
        del large  # a recording keeps all that was computed
        large = _recorded(plan, batch)
        for point, producer in _producers(large).items():
            best[point] = min(producer.seconds, best.get(point, math.inf))
    return _graph(plan, small, large, {point: own / size for point, own in best.items()})


def frozen_modules_as_calls(found: FrozenCalls) -> FrozenCalls:
    """The same for a head that runs the model's own forward, and of a frozen module makes all calls or none.

    What stands beside frozen modules runs in every step all the same: it costs nothing more, and its inputs are needed.
    What a module returns and the inputs of the model can be stored, nothing else.
    """
    blocks = list(dict.fromkeys(call.block for call in found.calls if call.block is not None))
    number = {block: at for at, block in enumerate(blocks)}
    made_by = [None if own.call is None else found.calls[own.call].block for own in found.values]
    calls = [FrozenCall(block.name, 0.0, 0, (), True, block) for block in blocks]
    needed = set(found.needed)
    for call in found.calls:
        if call.block is None:
            needed.update(call.reads)
            calls.append(replace(call, seconds=0.0, again=True))
            continue
        at = number[call.block]
        outside = tuple(own for own in call.reads if made_by[own] != call.block and own not in calls[at].reads)
        calls[at] = replace(calls[at], seconds=calls[at].seconds + call.seconds, reads=calls[at].reads + outside)
    beside = iter(range(len(blocks), len(calls)))
    places = [next(beside) if call.block is None else number[call.block] for call in found.calls]
    values: list[FrozenValue] = []
    for own, block in zip(found.values, made_by, strict=True):
        is_kept = own.call is None or any(point.frame == block and point.operation == "return" for point in own.points)
        call = None if own.call is None else places[own.call]
        values.append(replace(own, call=call, bytes=own.bytes if is_kept else None))
        if is_kept and call is not None:
            calls[call] = replace(calls[call], bytes=calls[call].bytes + (own.bytes or 0))
    return replace(found, calls=tuple(calls), values=tuple(values), needed=tuple(sorted(needed)))


def _recorded(plan: Plan, inputs: Any) -> Recorder:
    model = plan.frost_line.model
    with (
        wrapped(), uncompiled(), kept_modes(model), kept_buffers(model), kept_attributes(model, numbers=True),
        kept_generators(), torch.enable_grad(),
    ):  # fmt: skip
        model.eval()
        settings = plan.settings.in_mode(training=False)
        recorder = Recorder(model, plan.frost_line, settings, is_logging=False, has_lines=False, clock=_seconds)
        recorder.run_once(batches.map_tensors(inputs, torch.clone))
    return recorder


def _seconds() -> float:
    wait()
    return time.perf_counter()


def _size_of_batch(small: Recorder) -> int:
    """Samples of the measured batch: many, as long as all results of it fit the memory."""
    held = sum({id(own): own.nbytes for own in small.recording.origins.values()}.values()) / SMALL
    return int(min(_MOST, max(_LEAST, _MEMORY / max(1.0, held))))


def _producers(recorder: Recorder) -> dict[Point, Producer]:
    origins = recorder.ledger.origins
    found = ((point, origins[id(own)].producer) for point, own in recorder.recording.origins.items())
    return {point: producer for point, producer in found if producer is not None}


def _graph(plan: Plan, small: Recorder, large: Recorder, seconds: Mapping[Point, float]) -> FrozenCalls:
    """The values and calls that both recordings have."""
    ledger, origins = large.ledger, large.recording.origins
    points: dict[int, list[Point]] = {}
    for point, tensor in origins.items():
        points.setdefault(id(tensor), []).append(point)
    places = {key: at for at, key in enumerate(points)}
    values: list[FrozenValue] = []
    calls: list[FrozenCall] = []
    numbers: dict[int, int] = {}  # by the keywords of a call, a dict of its own
    sizes = (small.recording.batch_size, large.recording.batch_size)
    for key, own in points.items():
        tensor, producer = origins[own[0]], ledger.origins[key].producer
        count = _bytes_of(small.recording.origins.get(own[0]), tensor, sizes)
        if producer is None and count is not None and count > _INPUT_BYTES:
            count = None
        name = ledger.origins[key].point.name
        at, can = None, ledger.can_run_again(tensor)
        left = count if count is not None else tensor.nbytes // sizes[1]
        if producer is not None and id(producer.kwargs) not in numbers:
            numbers[id(producer.kwargs)] = len(calls)
            reads = tuple(places[id(used)] for used in producer.arguments if id(used) in places)
            block = large.recording.handed.blocks.get(own[0].frame)
            calls.append(FrozenCall(own[0].name, seconds[own[0]], left, reads, can, block))
            at = len(calls) - 1
        elif producer is not None:
            at = numbers[id(producer.kwargs)]
            calls[at] = replace(calls[at], bytes=calls[at].bytes + left, again=calls[at].again and can)
        values.append(FrozenValue(name, frozenset(own), at, count))
    crossing = {entry.origin for entry in plan.frontier.entries}
    if plan.settings.replayed:
        crossing = {own.origin for own in large.recording.crossings}
    needed = tuple(at for at, value in enumerate(values) if value.points & crossing)
    return FrozenCalls(tuple(calls), tuple(values), needed, sizes[1])


def _bytes_of(small: Tensor | None, large: Tensor, sizes: tuple[int, int]) -> int | None:
    if small is None or large.layout is not torch.strided or small.dtype != large.dtype:
        return None
    layout = find_layout(small, large, *sizes)
    if layout is None:
        return None
    if layout.axis is None:
        return 0 if is_same(small, large) else None
    return math.prod(layout.to_rows(large).shape[1:]) * large.element_size()
