"""The recordings that a plan is made of: in `train()` and in `eval()`, with two and with four samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import NotCacheable, SplitError
from frostline.core.restore import kept_attributes, kept_buffers
from frostline.splitting.plan.samples import LARGE, SMALL, batch_of, other_values
from frostline.splitting.recording.frost_line import FrostLine
from frostline.splitting.recording.known_results import KnownResults
from frostline.splitting.recording.omitted_noise import NoiseOnFrozenSide, Quiet, add_quiet, check_quiet_modules
from frostline.splitting.recording.recorder import Recorder
from frostline.splitting.recording.run_record import RecorderSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from frostline.splitting.calls.addresses import Point
    from frostline.splitting.parts.frontier import Pair
    from frostline.splitting.python_state.sources import Source
    from frostline.splitting.recording.run_record import Recording


@dataclass(frozen=True)
class Recordings:
    """The recordings of a model.

    Attributes:
        evaluated: In `eval()`, with few and with more samples.
        trained: As `train()` leaves the model.
        settings: What had to be known for them.
    """

    evaluated: Pair
    trained: Pair
    settings: RecorderSettings

    @property
    def every(self) -> tuple[Recording, ...]:
        """All of them."""
        return (*self.evaluated, *self.trained)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The code that ran in any of them."""
        return tuple({key: own for recording in self.every for key, own in recording.sources.items()}.values())


def record_modes(model: nn.Module, frost_line: FrostLine, example: Any, settings: RecorderSettings) -> Recordings:
    """Record the model in both modes at two batch sizes; it is left in `eval()`.

    Raises:
        NotCacheable: If the frozen part is noisy, moves its own state, or makes a tensor by a call without a record.
        SplitError: If a trainable value steers Python, or a call of the trainable part cannot be recorded.
    """
    sizes, known = (batch_of(example, SMALL), batch_of(example, LARGE)), KnownResults()
    trained, settings = _record_trained(model, frost_line, sizes, settings, known)
    check_quiet_modules(settings.quiet, trained[1])
    model.eval()
    known.is_asked_last = True
    crossed = frozenset(own.origin for recording in trained for own in recording.crossings)
    evaluated = _record_pair(
        model, frost_line, sizes, settings.in_mode(training=False), known, is_logging=True, crossed=crossed
    )
    _refuse_unknown_constants((*evaluated, *trained))
    if any(recording.unknown_origins for recording in evaluated):

        def again() -> Recording:
            inputs = other_values(batch_of(example, SMALL, start=1))  # whole numbers stay: other samples
            return record(model, frost_line, inputs, settings.in_mode(training=False), is_logging=True)

        refuse_unknown_origins(*evaluated, again)
    return Recordings(evaluated, trained, settings)


def record(
    model: nn.Module, frost_line: FrostLine, inputs: Any, settings: RecorderSettings, *, is_logging: bool,
    has_lines: bool = True, known: KnownResults | None = None,
) -> Recording:  # fmt: skip
    """One recording, in the mode that the model is in."""
    own = batches.map_tensors(inputs, torch.clone)  # a model may write into its inputs
    # Attributes too: a table of biases that one run made from moved weights must not be read by the next run.
    with torch.enable_grad(), kept_buffers(model), kept_attributes(model, numbers=True):
        return Recorder(model, frost_line, settings, is_logging=is_logging, has_lines=has_lines, known=known).run_once(
            own
        )


def noise_of_frozen_side(model: nn.Module, example: Any) -> Quiet:
    """Noise of mixed modules that feeds frozen layers, which a split leaves out; empty where a split is refused."""
    try:
        sizes = (batch_of(example, SMALL), batch_of(example, LARGE))
        return _record_trained(model, FrostLine(model), sizes, RecorderSettings(is_whole=True), KnownResults())[1].quiet
    except Exception:  # whatever it is, the split says so in its own words
        return {}


def _record_trained(
    model: nn.Module, frost_line: FrostLine, sizes: tuple[Any, Any], settings: RecorderSettings, known: KnownResults
) -> tuple[Pair, RecorderSettings]:
    """The recordings of the training mode, and what had to be known for them."""
    model.train()
    while True:
        try:
            trained = _record_pair(model, frost_line, sizes, settings, known)
        except NoiseOnFrozenSide as signal:
            settings = settings.but(quiet=add_quiet(settings.quiet, signal.source))
            continue
        live = settings.live.union(*(recording.live | set(recording.rebound) for recording in trained))
        if live == settings.live:
            return trained, settings
        settings = settings.but(live=live)


def _record_pair(
    model: nn.Module, frost_line: FrostLine, sizes: tuple[Any, Any], settings: RecorderSettings, known: KnownResults,
    *, is_logging: bool = False, crossed: frozenset[Point] = frozenset(),
) -> Pair:  # fmt: skip
    recorded = partial(record, model, frost_line, settings=settings, is_logging=is_logging, known=known)
    small = recorded(sizes[0]).released(crossed)
    return small, recorded(sizes[1], has_lines=False).released(crossed)


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


def _refuse_unknown_constants(recordings: Iterable[Recording]) -> None:
    """Refuse tensors that stand in a graph as they are, and that every run makes anew: an unrecorded call made them.

    Raises:
        SplitError: If there is one; scripted functions and those of C are not heard.
    """
    kept = [{own.data_ptr() for own in each.constants.values() if isinstance(own, Tensor)} for each in recordings]
    if any(sum(pointer in others for others in kept) == 1 for own in kept for pointer in own):
        raise SplitError(
            what="The model makes a tensor by a call that cannot be recorded.",
            where="a tensor that no recorded torch call, module or attribute has made",
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
