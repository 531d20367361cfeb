"""The plan of a split whose head is a graph: four recordings become a frontier, a recipe and a head.

`Plan` is also what `replay_plan.py` makes, for a head without a graph. Nothing of a plan is proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import NotCacheable, SplitError
from frostline.core.layers import frozen_modules
from frostline.core.restore import kept_attributes, kept_buffers
from frostline.splitting.calls.containers import outline
from frostline.splitting.parts.extraction import extract_features
from frostline.splitting.parts.frontier import DependsOnBatch, check_frontier, find_frontier, find_layout
from frostline.splitting.parts.head import Head
from frostline.splitting.plan.head_graph import assemble, generalise
from frostline.splitting.plan.samples import LARGE, SMALL, batch_of, other_values
from frostline.splitting.python_state.kept_state import steered_state
from frostline.splitting.recording.call_log import calls_digest
from frostline.splitting.recording.frost_line import FrostLine
from frostline.splitting.recording.guards import Expected, Handed, expect
from frostline.splitting.recording.omitted_noise import NoiseOnFrozenSide, Quiet, add_quiet, check_quiet_modules
from frostline.splitting.recording.recorder import Recorder
from frostline.splitting.recording.recording import RecorderSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import nn

    from frostline.splitting.calls.addresses import Point
    from frostline.splitting.parts.frontier import Frontier, Pair
    from frostline.splitting.python_state.sources import Source
    from frostline.splitting.recording.recording import Recording

# Raise it when what `recording/call_log.py` writes changes its meaning.
_SCHEMA = "2"


@dataclass(frozen=True)
class Plan:
    """All that is known of a split before its proof, beside the head.

    Attributes:
        frost_line: Which modules are frozen, trainable, mixed.
        frontier: What is stored.
        expected: By mode, what every batch must hand to Python.
        settings: How the model is recorded: what earlier recordings have shown.
        recipe: What makes a stored feature valid.
        has_batch_numbers: True if numbers in the graph follow the batch.
        recorded: The samples that were recorded.
        outline: The structure of the inputs.
        moved: Buffers that training moves.
        whole: Modules that the head calls whole.
        sources: The code that ran.
        weights: Parameters and buffers that the frozen part reads, by name.
        left_frozen: Attributes in which forward leaves values that the head does not make.
        num_sized_by_values: Frozen tensors beside frozen layers whose sizes follow values.
    """

    frost_line: FrostLine
    frontier: Frontier
    expected: dict[bool, Expected]
    settings: RecorderSettings
    recipe: Mapping[str, str]
    has_batch_numbers: bool
    recorded: Any
    outline: Any
    moved: frozenset[str]
    whole: frozenset[str]
    sources: tuple[Source, ...]
    weights: Mapping[str, Tensor]
    left_frozen: frozenset[str]
    num_sized_by_values: int = 0

    @property
    def quiet(self) -> Quiet:
        """Noise that runs in inference mode, because it feeds frozen layers."""
        return self.settings.quiet

    @property
    def decides_by_size(self) -> bool:
        """True if the model's code may run in another way at another batch size."""
        return any(expected.decides_by_size for expected in self.expected.values())

    @property
    def is_steered(self) -> bool:
        """True if a frozen value reached Python anywhere, inside of blocks too."""
        return any(expected.is_steered for expected in self.expected.values())

    @property
    def between(self) -> Any:
        """A batch unlike all others, for the proof of a head that runs the model's own code; else None."""
        if not self.settings.replayed:
            return None
        back = torch.arange(batches.batch_size(self.recorded) - 1, -1, -1)
        device = next(iter(batches.leaves(self.recorded).values())).device
        return other_values(batches.rows(self.recorded, back.to(device)))

    @property
    def num_guards(self) -> int:
        """How many values beside frozen layers reach Python, or decide a size, and must be as in the recording."""
        return (
            len({point for expected in self.expected.values() for point in expected.guards}) + self.num_sized_by_values
        )


def record_plan(model: nn.Module, example: Any, *, is_whole: bool) -> tuple[Plan, Head]:
    """Record the model in both modes at two batch sizes, and build the head.

    Raises:
        NotCacheable: If the frozen part is noisy, moves its own state, or depends on the batch where it cannot be
            computed in the head.
        SplitError: If a trainable value steers Python, or sizes cannot be generalised.
    """
    settings = RecorderSettings(is_whole)
    while True:
        try:
            return _record_once(model, example, settings)
        except DependsOnBatch as signal:
            remade = settings.remade | signal.origins
            if remade == settings.remade:
                raise signal.error from None
            settings = settings.but(remade=remade)


def make_recipe(log: Sequence[str], frontier: Frontier, quiet: Quiet) -> Mapping[str, str]:
    """The recipe from the log of the frozen calls.

    In it: the calls in order with scalar arguments, shapes and code; the digests of every parameter, buffer and
    constant that they read; what is stored. Not in it: the head, paths, names of files, versions.

    Args:
        log: The calls of the run in inference mode at the smaller batch size; and of one in training mode, if features
            are made only there.
        frontier: What is stored.
        quiet: Noise that was turned off.
    """
    stored = [
        f"{entry.tensor.name} {entry.tensor.shape} {entry.tensor.dtype} {entry.layout} {entry.from_training}"
        for entry in frontier.entries
    ]
    return MappingProxyType(
        {
            "schema": _SCHEMA,
            "calls": calls_digest(log),
            "stored": "; ".join(stored),
            "mode": "inference",
            "quiet": "; ".join(sorted(map(str, quiet))),
        }
    )


def frozen_log(model: nn.Module, plan: Plan) -> list[str]:
    """The log of the frozen calls as the model is now; nothing in the model changes."""
    frost_line = FrostLine(model)
    inputs = batch_of(plan.recorded, SMALL)
    log: list[str] = []
    modes = (False, True) if plan.frontier.has_training else (False,)
    for training in modes:
        model.train(training)
        with torch.enable_grad():
            log += _record(model, frost_line, inputs, plan.settings.in_mode(training), is_logging=True).log
    return log + steered_lines(model, frost_line, plan.expected, plan.sources)


def steered_lines(
    model: nn.Module, frost_line: FrostLine, expected: Mapping[bool, Expected], sources: Iterable[Source]
) -> list[str]:  # fmt: skip
    """What any batch may read of the frozen part, where values steer it; the log holds what one batch has read."""
    if not any(own.is_steered for own in expected.values()):
        return []
    ids, modules = frozen_modules(model), dict(model.named_modules())
    frozen = {name: module for name, module in modules.items() if id(module) in ids}
    mixed = {name: module for name, module in modules.items() if name not in frozen and frost_line.is_mixed(module)}
    return steered_state(frozen, mixed, sources)


def _record_once(model: nn.Module, example: Any, settings: RecorderSettings) -> tuple[Plan, Head]:
    frost_line = FrostLine(model)
    sizes = (batch_of(example, SMALL), batch_of(example, LARGE))
    with torch.enable_grad():
        trained, settings = _record_trained(model, frost_line, sizes, settings)
        check_quiet_modules(settings.quiet, trained[1])
        model.eval()
        evaluated = _record_pair(model, frost_line, sizes, settings.in_mode(training=False), is_logging=True)
    _refuse_unknown_constants((*evaluated, *trained))
    if any(recording.unknown_origins for recording in evaluated):

        def again() -> Recording:
            inputs = other_values(batch_of(example, SMALL, start=1))  # whole numbers stay: other samples
            return _record(model, frost_line, inputs, settings.in_mode(training=False), is_logging=True)

        with torch.enable_grad():
            refuse_unknown_origins(*evaluated, again)
    batch_nodes = [generalise(*pair, _anchor(pair)) for pair in (evaluated, trained)]
    frontier = find_frontier(evaluated, trained)
    expected = {mode: expect(*map(_handed, pair)) for mode, pair in ((False, evaluated), (True, trained))}
    check_frontier(model, frontier.tensors)
    sample = batches.map_tensors(sizes[0], torch.clone)
    frontier = frontier.in_order_of(extract_features(model, frost_line, frontier, expected, settings.quiet, sample)[0])
    sources = tuple(
        {key: own for recording in (*evaluated, *trained) for key, own in recording.sources.items()}.values()
    )
    graphs = (
        assemble(evaluated[1], batch_nodes[0], frontier, frontier.eval_slots),
        assemble(trained[1], batch_nodes[1], frontier, frontier.train_slots),
    )
    head = Head(model, ((evaluated[1], graphs[0]), (trained[1], graphs[1])), frontier)
    log, recordings = list(evaluated[0].log), (*evaluated, *trained)
    if frontier.has_training:  # weights that only train() reads are part of the key
        with torch.enable_grad():
            model.train()
            log += _record(model, frost_line, sizes[0], settings, is_logging=True).log
    log += steered_lines(model, frost_line, expected, sources)
    plan = Plan(
        frost_line=frost_line, frontier=frontier, expected=expected, settings=settings,
        recipe=make_recipe(log, frontier, settings.quiet), has_batch_numbers=any(batch_nodes), recorded=sizes[1],
        outline=outline(example),
        moved=settings.live.union(*(recording.moved for recording in recordings)),
        whole=frozenset(name for recording in recordings for name in recording.modules),
        sources=sources,
        weights={name: own for recording in recordings for name, own in recording.weights.items()},
        left_frozen=frozenset(name for recording in recordings for name in recording.left_frozen),
        num_sized_by_values=sum(
            point.frame not in recording.handed.closed() for recording in trained for point in recording.sized_by_values
        ),
    )  # fmt: skip
    return plan, head


def noise_of_frozen_side(model: nn.Module, example: Any) -> Quiet:
    """Noise of mixed modules that feeds frozen layers, which a split leaves out; empty where a split is refused."""
    try:
        with torch.enable_grad():
            sizes = (batch_of(example, SMALL), batch_of(example, LARGE))
            return _record_trained(model, FrostLine(model), sizes, RecorderSettings(is_whole=True))[1].quiet
    except Exception:  # whatever it is, the split says so in its own words
        return {}


def _record_trained(
    model: nn.Module, frost_line: FrostLine, sizes: tuple[Any, Any], settings: RecorderSettings
) -> tuple[Pair, RecorderSettings]:
    """The recordings of the training mode, and what had to be known for them."""
    model.train()
    while True:
        try:
            trained = _record_pair(model, frost_line, sizes, settings)
        except NoiseOnFrozenSide as signal:
            settings = settings.but(quiet=add_quiet(settings.quiet, signal.source))
            continue
        live = settings.live.union(*(recording.live | set(recording.rebound) for recording in trained))
        if live == settings.live:
            return trained, settings
        settings = settings.but(live=live)


def _record_pair(
    model: nn.Module, frost_line: FrostLine, sizes: tuple[Any, Any], settings: RecorderSettings, *,
    is_logging: bool = False,
) -> Pair:  # fmt: skip
    small, large = (_record(model, frost_line, inputs, settings, is_logging=is_logging) for inputs in sizes)
    return small, large


def _record(
    model: nn.Module, frost_line: FrostLine, inputs: Any, settings: RecorderSettings, *, is_logging: bool
) -> Recording:
    own = batches.map_tensors(inputs, torch.clone)  # a model may write into its inputs
    # Attributes too: a table of biases that one run made from moved weights must not be read by the next run.
    with kept_buffers(model), kept_attributes(model, numbers=True):
        return Recorder(model, frost_line, settings, is_logging=is_logging).run_once(own)


def refuse_unknown_origins(small: Recording, large: Recording, again: Callable[[], Recording]) -> None:
    """Refuse frozen tensors of unknown origin that follow the inputs: the log holds those of one batch only.

    Args:
        small: A recording.
        large: One of more samples; a tensor may follow their number alone.
        again: Records as many samples as `small` has, others and with other values.

    Raises:
        NotCacheable: If there is one; a tensor that is the same for other values is in the log by its own.
    """
    if set(small.unknown_origins) != set(large.unknown_origins) and set(small.unknown_origins) != set(
        again().unknown_origins
    ):
        raise _unknown_origin_error()


def _handed(recording: Recording) -> tuple[Handed, dict[Point, Tensor], int]:
    return recording.handed, recording.origins, recording.batch_size


def _anchor(pair: Pair) -> int | None:
    """A crossing that gives the batch size: one that follows the batch."""
    small, large = pair
    for at, (a, b) in enumerate(zip(small.crossings, large.crossings, strict=False)):
        layout = find_layout(a.tensor, b.tensor, small.batch_size, large.batch_size)
        if layout is not None and layout.axis is not None:
            return at
    return None


def _refuse_unknown_constants(recordings: Iterable[Recording]) -> None:
    """Refuse tensors that stand in a graph as they are, and that every run makes anew: an unrecorded call made them.

    Raises:
        SplitError: If there is one; scripted functions and those of C are not heard.
    """
    kept = [{own.data_ptr() for own in each.constants.values() if isinstance(own, Tensor)} for each in recordings]
    if any(sum(pointer in others for others in kept) == 1 for own in kept for pointer in own):
        raise SplitError(
            what="The model makes a tensor by a call that cannot be recorded.",
            where="a tensor that no torch call, module or attribute tells the origin of",
            received="the result of a scripted or compiled function, or of one that is not torch's",
            do="call the function without torch.jit or torch.compile; or put the step into a module of its own that "
            "holds no frozen layers; or train with frostline.fit(..., cache=False).",
        )


def _unknown_origin_error() -> NotCacheable:
    """A frozen value that follows the batch came from a call without a line in the log."""
    return NotCacheable(
        what="The frozen part makes a tensor from its inputs by a call that cannot be recorded.",
        where="a frozen tensor that follows the batch, and that no torch call, script or autograd Function made",
        received="the result of another thread, of a compiled extension, or of a library that is not torch",
        do="call torch in the thread that runs the model; or move the step into the dataset's transform; or train with "
        "frostline.fit(..., cache=False).",
    )
