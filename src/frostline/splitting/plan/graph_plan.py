"""The plan of a split whose head is a graph: four recordings become a frontier, a recipe and a head.

`Plan` is also what `replay_plan.py` makes, for a head without a graph. Nothing of a plan is proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.layers import frozen_modules
from frostline.splitting.calls.containers import outline
from frostline.splitting.parts.extraction import extract_features
from frostline.splitting.parts.frontier import DependsOnBatch, check_frontier, find_frontier, find_layout
from frostline.splitting.parts.head import Head
from frostline.splitting.plan.head_graph import assemble, generalise
from frostline.splitting.plan.recordings import record, record_modes
from frostline.splitting.plan.samples import LARGE, SMALL, batch_of, other_values
from frostline.splitting.python_state.kept_state import steered_state
from frostline.splitting.recording.call_log import calls_digest
from frostline.splitting.recording.frost_line import FrostLine
from frostline.splitting.recording.guards import Expected, Handed, expect
from frostline.splitting.recording.run_record import RecorderSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from frostline.splitting.calls.addresses import Point
    from frostline.splitting.parts.frontier import Frontier, Pair
    from frostline.splitting.python_state.sources import Source
    from frostline.splitting.recording.omitted_noise import Quiet
    from frostline.splitting.recording.run_record import Recording

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
        digested: Names of those whose digests the recipe holds.
        left_frozen: Attributes in which forward leaves values that the head does not make.
        num_sized_by_values: Frozen tensors beside frozen layers whose sizes follow values.
        features: Of the first samples of the example, where the plan has extracted them.
        follows_lengths: True if batches of any length are taken. Python's values then steer the frozen part and the
            head anew in every batch, since both run the model's own code.
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
    digested: frozenset[str]
    left_frozen: frozenset[str]
    num_sized_by_values: int = 0
    features: tuple[Tensor, ...] | None = None
    follows_lengths: bool = False

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


def record_plan(model: nn.Module, example: Any, settings: RecorderSettings) -> tuple[Plan, Head]:
    """Record the model in both modes at two batch sizes, and build the head.

    Args:
        model: The model.
        example: A batch.
        settings: How the head is made.

    Raises:
        NotCacheable: If the frozen part is noisy, moves its own state, or depends on the batch where it cannot be
            computed in the head.
        SplitError: If a trainable value steers Python, or sizes cannot be generalised.
    """
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
    return MappingProxyType(
        {
            "schema": _SCHEMA,
            "calls": calls_digest(log),
            "stored": stored_text(frontier),
            "mode": "inference",
            "quiet": "; ".join(sorted(map(str, quiet))),
        }
    )


def stored_text(frontier: Frontier) -> str:
    """What is stored, as a recipe names it."""
    return "; ".join(
        f"{entry.tensor.name} {entry.tensor.shape} {entry.tensor.dtype} {entry.layout} {entry.from_training}"
        for entry in frontier.entries
    )


def frozen_log(model: nn.Module, plan: Plan) -> list[str]:
    """The log of the frozen calls as the model is now; nothing in the model changes."""
    frost_line = FrostLine(model)
    inputs = batch_of(plan.recorded, SMALL)
    log: list[str] = []
    modes = (False, True) if plan.frontier.has_training else (False,)
    for training in modes:
        model.train(training)
        log += record(model, frost_line, inputs, plan.settings.in_mode(training), is_logging=True).log
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
    recordings = record_modes(model, frost_line, example, settings)
    evaluated, trained, settings = recordings.evaluated, recordings.trained, recordings.settings
    batch_nodes = [generalise(*pair, _anchor(pair)) for pair in (evaluated, trained)]
    frontier = find_frontier(evaluated, trained)
    check_frontier(model, frontier.tensors)
    expected = {mode: expect(*map(_handed, pair)) for mode, pair in ((False, evaluated), (True, trained))}
    sample = batch_of(example, SMALL)
    features, _ = extract_features(
        model, frost_line, frontier, expected, settings.quiet, batches.map_tensors(sample, torch.clone)
    )
    frontier = frontier.in_order_of(features)
    rows = [entry.layout.to_rows(own) for entry, own in zip(frontier.entries, features, strict=True) if own is not None]
    graphs = (
        assemble(evaluated[1], batch_nodes[0], frontier, frontier.eval_slots),
        assemble(trained[1], batch_nodes[1], frontier, frontier.train_slots),
    )
    head = Head(model, ((evaluated[1], graphs[0]), (trained[1], graphs[1])), frontier)
    log = list(evaluated[0].log)
    if frontier.has_training:  # weights that only train() reads are part of the key
        model.train()
        log += record(model, frost_line, sample, settings, is_logging=True).log
    log += steered_lines(model, frost_line, expected, recordings.sources)
    every = recordings.every
    plan = Plan(
        frost_line=frost_line, frontier=frontier, expected=expected, settings=settings,
        recipe=make_recipe(log, frontier, settings.quiet), has_batch_numbers=any(batch_nodes),
        recorded=batch_of(example, LARGE), outline=outline(example),
        moved=settings.live.union(*(own.moved for own in every)),
        whole=frozenset(name for own in every for name in own.modules),
        sources=recordings.sources,
        weights={name: tensor for own in every for name, tensor in own.weights.items()},
        digested=frozenset(evaluated[0].weights),
        left_frozen=frozenset(name for own in every for name in own.left_frozen),
        num_sized_by_values=sum(
            point.frame not in own.handed.closed() for own in trained for point in own.sized_by_values
        ),
        features=tuple(rows) if len(rows) == len(features) else None,
    )  # fmt: skip
    return plan, head


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
