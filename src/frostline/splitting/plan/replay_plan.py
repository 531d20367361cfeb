"""The plan of a split whose head runs the model's own forward: which frozen calls return stored features, and which."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from frostline.core import inputs as batches
from frostline.core.digests import checksum
from frostline.core.errors import FrostlineError
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators
from frostline.core.tolerances import batch_tolerance, relative_difference
from frostline.splitting.calls.addresses import Frame, Point
from frostline.splitting.calls.containers import is_same, outline, template_of
from frostline.splitting.parts.frontier import (
    DependsOnBatch,
    Entry,
    Frontier,
    check_frontier,
    find_layout,
    is_per_sample,
    record_of,
)
from frostline.splitting.parts.head import Head
from frostline.splitting.parts.own_forward import Answer, OwnForward, Place, Uses, replayed_recording
from frostline.splitting.plan.graph_plan import Plan, make_recipe, steered_lines
from frostline.splitting.plan.recordings import refuse_unknown_origins
from frostline.splitting.plan.samples import LARGE, SMALL, batch_of, other_values
from frostline.splitting.python_state.sources import names_written_by
from frostline.splitting.recording.frost_line import FrostLine
from frostline.splitting.recording.graph_writer import UnknownValue
from frostline.splitting.recording.guards import Expected, Sizes, expect
from frostline.splitting.recording.omitted_noise import NoiseOnFrozenSide
from frostline.splitting.recording.recorder import Recorder
from frostline.splitting.recording.run_record import RecorderSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from frostline.splitting.recording.run_record import Block, Recording

_ROOT = Frame("", 0)
_Proven = TypeVar("_Proven")


# What a recording ends with, ours or torch's, where a call cannot be recorded, or the model's own, where it misses what
# a frozen layer leaves behind. A warning is an error where the caller says so. Any other exception is the model's own:
# `split` wraps it in an error of four parts, and does not try again.
RECORDING_FAILS = (
    FrostlineError, UnknownValue, RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError,
    AssertionError, Warning,
)  # fmt: skip


class NothingToReplay(Exception):  # noqa: N818 (a signal inside this pillar, never seen by callers)
    """No frozen module runs whose output can be stored per sample, or one does what no frozen module may."""


def first_proven(
    prove: Callable[[Plan, Head], _Proven], model: nn.Module, example: Any, why: Exception | str,
    *, only_lean: bool = False, settings: RecorderSettings | None = None,
) -> _Proven | None:  # fmt: skip
    """The first head that runs the model's own forward and is proven to be the model; None if there is none.

    Args:
        prove: What makes of a plan and its head what is proven, or raises.
        model: The model.
        example: A batch.
        why: Why no graph holds.
        only_lean: Do not store inputs and features of which no use was seen.
        settings: Of earlier recordings; None makes them.
    """
    if isinstance(why, FrostlineError):
        why = f"{why.what} ({why.where})"
    elif isinstance(why, Exception):
        why = f"{type(why).__name__}: {why}"
    for is_lean in (True,) if only_lean else (True, False):
        try:
            return prove(*record_replayed(model, example, why, is_lean=is_lean, settings=settings))
        except NothingToReplay:
            return None
        except (*RECORDING_FAILS, NoiseOnFrozenSide, DependsOnBatch):  # the graph's own failure is nearer to the model
            continue
    return None


def record_replayed(
    model: nn.Module, example: Any, why: str, *, is_lean: bool, settings: RecorderSettings | None = None
) -> tuple[Plan, Head]:
    """Record the frozen modules of a model in both modes at two batch sizes, and build the head that answers them.

    Args:
        model: The model.
        example: A batch.
        why: Why no graph holds.
        is_lean: Store only what a run of the model was seen to use; else all inputs and all results of frozen modules.
        settings: Which calls of frozen modules run in the head; None: none of those that can be answered.

    Raises:
        NothingToReplay: If there is no frozen call to answer.
    """
    settings = settings or RecorderSettings(is_whole=True, replayed=why)
    frost_line, sizes = FrostLine(model), (batch_of(example, SMALL), batch_of(example, LARGE))
    recordings: dict[bool, list[Recording]] = {}
    for training in (True, False):
        model.train(training)
        recordings[training] = [record_blocks(model, frost_line, inputs, settings) for inputs in sizes]
    if any(recording.is_unsound for pair in recordings.values() for recording in pair):
        raise NothingToReplay
    others = other_values(batch_of(example, SMALL, start=1))
    small, large = recordings[False]
    refuse_unknown_origins(small, large, lambda: record_blocks(model, frost_line, others, settings))
    blocks = {frame: own for frame, own in _answered(recordings).items() if frame not in settings.opened}
    moved, used = set[str](), set[tuple[Frame | None, int]]()
    for training in (True, False):
        model.train(training)
        seen, changed = _observed(model, frost_line, sizes[1], frozenset(blocks))
        used, moved = used | seen, moved | changed
    entries: list[Entry] = []
    frames: list[tuple[Frame | None, Any, Any]] = [(None, *sizes)]
    frames += [(frame, small.result, large.result) for frame, (small, large) in blocks.items()]
    answers = {
        frame: _answer(frame, small, large, entries, used if is_lean else None) for frame, small, large in frames
    }
    for frame, (_, large) in blocks.items():
        answers[frame] = replace(answers[frame], inner=large.inner)
    frontier = Frontier(tuple(entries), (), ())
    check_frontier(model, frontier.tensors)
    forward = OwnForward(model, answers.pop(None), {f: own for f, own in answers.items() if f}, frontier.entries)
    made = [replayed_recording(model, frost_line, forward, training=training) for training in (False, True)]
    for recording, training in zip(made, (False, True), strict=True):
        recording.sources = recordings[training][1].sources
    head = Head(model, ((made[0], made[0].graph), (made[1], made[1].graph)), frontier, has_queues=False)
    every = [*recordings[False], *recordings[True]]
    expected = {mode: _expected(pair, frontier) for mode, pair in recordings.items()}
    sources = tuple({key: own for recording in every for key, own in recording.sources.items()}.values())
    log = [*_logged(recordings[False][0]), *steered_lines(model, frost_line, expected, sources)]
    plan = Plan(
        frost_line=frost_line, frontier=frontier, settings=settings,
        expected=expected, recipe=make_recipe(log, frontier, {}), has_batch_numbers=True, recorded=sizes[1],
        outline=outline(example), moved=frozenset(moved),
        whole=frozenset(name for recording in made for name in recording.modules),
        sources=sources,
        weights={name: own for recording in every for name, own in recording.weights.items() if name not in moved},
        digested=frozenset(recordings[False][0].weights) - moved,
        left_frozen=names_written_by(model.get_submodule(frame.name) for frame in blocks),
    )  # fmt: skip
    return plan, head


def record_blocks(model: nn.Module, frost_line: FrostLine, inputs: Any, settings: RecorderSettings) -> Recording:
    """A recording to the point where no graph can hold: what runs later is not answered, and runs for real."""
    with torch.enable_grad(), kept_buffers(model), kept_attributes(model, numbers=True):
        recorder = Recorder(model, frost_line, settings, is_logging=True)
        try:
            recorder.run_once(batches.map_tensors(inputs, torch.clone))  # a model may write into its inputs
        except RECORDING_FAILS:
            recorder.recording.batch_size = batches.batch_size(inputs)
    return recorder.recording.released()


def replayed_log(model: nn.Module, plan: Plan) -> list[str]:
    """The log of the frozen calls as the model is now; nothing in the model changes."""
    model.eval()
    frost_line = FrostLine(model)
    log = _logged(record_blocks(model, frost_line, batch_of(plan.recorded, SMALL), plan.settings))
    return log + steered_lines(model, frost_line, plan.expected, plan.sources)


def _logged(recording: Recording) -> list[str]:
    """The log to the last call of a frozen module: what runs later makes no features."""
    return recording.log[: recording.blocks[-1].num_lines] if recording.blocks else []


def _answered(recordings: dict[bool, list[Recording]]) -> dict[Frame, tuple[Block, Block]]:
    """Calls that all recordings have made, with one result in both modes that can be stored; those of inference mode.

    A model that draws from Python's own generator before a frozen layer, in training, gives it other inputs there.
    """
    (few, trained), (small, large) = (
        [{block.frame: block for block in recording.blocks} for recording in recordings[mode]] for mode in (True, False)
    )
    found = {
        frame: (small[frame], block)
        for frame, block in large.items()
        if all(frame in table for table in (few, trained, small))
        and _is_storable(small[frame].result, block.result)
        and _is_same_result(trained[frame].result, block.result)
    }
    if not found:
        raise NothingToReplay
    return found


def _is_storable(small: Any, large: Any) -> bool:
    ours, theirs = template_of(small)[1], template_of(large)[1]
    if outline(small) != outline(large):
        return False
    follows_batch = False
    for a, b in zip(ours, theirs, strict=True):
        layout = find_layout(a, b, SMALL, LARGE) if a.layout is torch.strided else None
        if layout is None or a.dtype != b.dtype or not is_per_sample(a, b, layout, SMALL):
            return False
        follows_batch |= layout.axis is not None
    return follows_batch  # else it may be the result for one row: it runs for real


def _is_same_result(trained: Any, evaluated: Any) -> bool:
    """Whether a frozen call gives the same in both modes, but for what kernels round."""
    pairs = zip(template_of(trained)[1], template_of(evaluated)[1], strict=True)
    return outline(trained) == outline(evaluated) and all(
        a.shape == b.shape and relative_difference(a, b) <= batch_tolerance(b.dtype, is_on_gpu=b.is_cuda)
        for a, b in pairs
    )


def _observed(
    model: nn.Module, frost_line: FrostLine, inputs: Any, frames: frozenset[Frame]
) -> tuple[set[tuple[Frame | None, int]], set[str]]:
    """What a whole run uses, and the buffers that it moves.

    Raises:
        NothingToReplay: If it writes into a frozen weight: what is stored would be that of another one.
    """
    uses = Uses(model, frames)
    frozen = {name: own for name, own in frost_line.parameters.items() if not own.requires_grad}
    sums = {name: checksum(own) for name, own in frozen.items()}
    with torch.enable_grad(), kept_buffers(model), kept_attributes(model, numbers=True), kept_generators():
        before = {name: buffer.detach().clone() for name, buffer in frost_line.buffer_slots().items()}
        uses.run_once(batches.map_tensors(inputs, torch.clone))
        after = frost_line.buffer_slots()
        moved = {name for name, own in before.items() if name not in after or not is_same(own, after[name])}
    if any(checksum(own) != sums[name] for name, own in frozen.items()):
        raise NothingToReplay
    return uses.used, moved


def _answer(
    frame: Frame | None, small: Any, large: Any, entries: list[Entry], used: set[tuple[Frame | None, int]] | None
) -> Answer:  # fmt: skip
    """What a call returns (or what the inputs are, without a frame); what of it is stored becomes an entry."""
    template, tensors = template_of(large)
    names = list(batches.leaves(large)) if frame is None else []
    places: list[Place] = []
    for at, (a, b) in enumerate(zip(template_of(small)[1], tensors, strict=True)):
        point = Point(_ROOT, "input", 0, names[at]) if frame is None else Point(frame, "return", 0, at)
        sizes = Sizes(tuple(a.shape), tuple(b.shape), (SMALL, LARGE))
        is_stored = used is None or (frame, at) in used
        places.append(Place(len(entries) if is_stored else None, sizes, b.dtype))
        if is_stored:
            layout = find_layout(a, b, SMALL, LARGE)
            if layout is None:
                raise NothingToReplay
            entries.append(Entry(point, None, True, False, layout, record_of(point.name, b, layout)))
    return Answer(template, tuple(places), Counter())


def _expected(pair: list[Recording], frontier: Frontier) -> Expected:
    """Values that reach Python before the last answered call: they steer what is stored."""
    for recording in pair:
        recording.handed.guards = dict(recording.blocks[-1].guards)
        recording.handed.close_blocks(entry.origin for entry in frontier.entries)
    small, large = ((own.handed, own.origins, own.batch_size) for own in pair)
    return replace(expect(small, large), sizes={}, decides_by_size=True)
