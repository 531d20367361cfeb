"""The plan of a split that takes batches of any length: the model's own forward over frozen modules that are answered.

The frozen modules are recorded at two lengths. Where a result has another size at the other length, that axis varies.
What no trainable value is computed from is not stored: the head gets a tensor of its shape without values.

Legend: B batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import NotCacheable
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators
from frostline.splitting.calls.containers import outline, tensors_in
from frostline.splitting.parts.extraction import extract_features
from frostline.splitting.parts.frontier import DependsOnBatch, Entry, Frontier, check_frontier
from frostline.splitting.parts.head import Head
from frostline.splitting.parts.own_forward import Answer, OwnForward, Place, replayed_recording
from frostline.splitting.plan.graph_plan import Plan, stored_text
from frostline.splitting.plan.replay_plan import RECORDING_FAILS, NothingToReplay, record_replayed
from frostline.splitting.recording.graph_writer import UnknownValue
from frostline.splitting.recording.omitted_noise import NoiseOnFrozenSide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from frostline.splitting.parts.frontier import Layout
    from frostline.splitting.recording.omitted_noise import NoiseSource
    from frostline.splitting.recording.run_record import RecorderSettings

_WHY = "samples differ in length"


@dataclass(frozen=True)
class Blank:
    """A tensor without values: only its shape was seen to be used.

    Attributes:
        layout: How it follows the batch.
        sizes: Of each axis of a row at the shorter and at the longer length.
        reference: The stored tensor, and the axis of its rows, that the varying axes follow; None where none varies.
        lengths: Of that axis at both lengths.
        dtype: Of the tensor.
    """

    layout: Layout
    sizes: tuple[tuple[int, int], ...]
    reference: tuple[int, int] | None
    lengths: tuple[int, int]
    dtype: torch.dtype

    def value(self, entries: Sequence[Entry], features: Sequence[Tensor], batch_size: int) -> Tensor:
        """Zeros of the shape for a batch, which take no memory."""
        share = 0.0
        if self.reference is not None:
            at, axis = self.reference
            share = (features[at].shape[axis + 1] - self.lengths[0]) / (self.lengths[1] - self.lengths[0])
        shape = [round(a + (b - a) * share) for a, b in self.sizes]
        if self.layout.fold > 1:
            shape = shape[1:]
        shape.insert(self.layout.axis or 0, batch_size * self.layout.fold)
        return torch.zeros((), dtype=self.dtype, device=features[0].device).expand(shape)


def record_lengths(
    model: nn.Module, shorter: Any, longer: Any, settings: RecorderSettings | None = None
) -> tuple[Plan, Head]:
    """Record a model at two lengths, and build the head for batches of any length.

    Args:
        model: The model; modes are set by the caller.
        shorter: A batch without padding.
        longer: A batch of the same samples at another length.
        settings: Which calls of frozen modules run in the head; None: none of those that can be answered.

    Raises:
        NotCacheable: If no frozen module gives rows of samples at both lengths, or one gives none that fit together.
        SplitError: If everything trains.
    """
    try:
        (plan, head), (other, other_head) = (
            record_replayed(model, own, _WHY, is_lean=False, settings=settings) for own in (shorter, longer)
        )
    except NothingToReplay as signal:
        raise _no_axis("no frozen module whose output has a row for each sample") from signal
    except NoiseOnFrozenSide as signal:
        raise _noisy(signal.source) from signal
    except DependsOnBatch as signal:
        raise signal.error from signal
    except UnknownValue as signal:
        raise _no_axis("values that no recorded call made") from signal
    own, theirs = head.train_own_forward, other_head.train_own_forward
    entries = _joined(plan.frontier, other.frontier)
    if list(own.answers) != list(theirs.answers) or outline(own.inputs.template) != outline(theirs.inputs.template):
        raise _no_axis("other calls of frozen modules at another length")
    needed = _needed(model, head, plan, shorter)
    order = {old: new for new, old in enumerate(needed)}
    stored = tuple(entries[at] for at in needed)
    axes = [
        (new, axis) for new, entry in enumerate(stored) for axis, size in enumerate(entry.tensor.shape) if size == -1
    ]
    frontier = Frontier(stored, (), ())
    check_frontier(model, tuple(entry.tensor for entry in stored if entry.tensor.name[:6] != "input."))
    pair = (plan.frontier.entries, other.frontier.entries)

    def placed(answer: Answer) -> Answer:
        places: list[Any] = [_place(place, order, axes, stored, needed, pair) for place in answer.places]
        return replace(answer, places=tuple(places))

    forward = OwnForward(
        model, placed(own.inputs), {f: placed(answer) for f, answer in own.answers.items()}, stored, True
    )
    made = [replayed_recording(model, plan.frost_line, forward, training=training) for training in (False, True)]
    for recording in made:
        recording.sources = dict(enumerate(plan.sources))
    new_head = Head(model, ((made[0], made[0].graph), (made[1], made[1].graph)), frontier, has_queues=False)
    recipe = {**plan.recipe, "stored": stored_text(frontier), "lengths": "own"}
    expected = {mode: replace(own, guards={}, sizes={}, is_steady=True) for mode, own in plan.expected.items()}
    return replace(
        plan, frontier=frontier, expected=expected, recipe=MappingProxyType(recipe),
        follows_lengths=True, features=None,
    ), new_head  # fmt: skip


def _joined(short: Frontier, long: Frontier) -> list[Entry]:
    """The entries of both recordings as one list; axes that differ are -1."""
    if [entry.origin for entry in short.entries] != [entry.origin for entry in long.entries]:
        raise _no_axis("other results of frozen modules at another length")
    found: list[Entry] = []
    for a, b in zip(short.entries, long.entries, strict=True):
        ours, theirs = a.tensor.shape, b.tensor.shape
        if len(ours) != len(theirs) or (a.layout.axis, a.layout.fold) != (b.layout.axis, b.layout.fold):
            raise _no_axis(f"{a.tensor.name} of shape {ours} and {theirs} at two lengths")
        shape = tuple(x if x == y else -1 for x, y in zip(ours, theirs, strict=True))
        found.append(replace(b, tensor=replace(a.tensor, shape=shape)))
    return found


def _needed(model: nn.Module, head: Head, plan: Plan, inputs: Any) -> list[int]:
    """Entries that an output or a Python value is computed from: integers, and floats that autograd reaches."""
    entries = plan.frontier.entries
    found, _ = extract_features(
        model, plan.frost_line, plan.frontier, plan.expected, {}, batches.map_tensors(inputs, torch.clone)
    )
    rows = [entry.layout.to_rows(own) for entry, own in zip(entries, found, strict=True) if own is not None]
    if len(rows) != len(entries):
        raise _no_axis("a result of a frozen module that is not made in every run")
    needed = {at for at, own in enumerate(rows) if not own.is_floating_point()}
    for training in (True, False):
        features = [own.detach().clone().requires_grad_(own.is_floating_point()) for own in rows]
        floats = [at for at, own in enumerate(features) if own.requires_grad]
        with torch.enable_grad(), kept_buffers(model), kept_attributes(model, numbers=True), kept_generators():
            head.train(training)
            try:
                outputs = [own for own in tensors_in(head.recorded(*features)) if own.requires_grad]
            except RECORDING_FAILS as error:
                raise _no_axis(f"{type(error).__name__} when frozen modules were answered: {error}") from error
            total = torch.stack([own.float().sum() for own in outputs]).sum() if outputs else None
            reached = (
                torch.autograd.grad(total, [features[at] for at in floats], allow_unused=True)
                if total is not None and floats else [None] * len(floats)
            )  # fmt: skip
        needed |= {at for at, gradient in zip(floats, reached, strict=True) if gradient is not None}
    return sorted(needed)


def _place(
    place: Place, order: dict[int, int], axes: list[tuple[int, int]], stored: tuple[Entry, ...], needed: list[int],
    pair: tuple[tuple[Entry, ...], tuple[Entry, ...]],
) -> Place | Blank:  # fmt: skip
    """The same place over the stored entries: one of them, or a tensor without values."""
    assert place.entry is not None
    if place.entry in order:
        return replace(place, entry=order[place.entry])
    short, long = (entries[place.entry].tensor for entries in pair)
    sizes = tuple(zip(short.shape, long.shape, strict=True))
    varying = [own for own in sizes if own[0] != own[1]]
    reference, lengths = None, (0, 1)
    if varying and axes:
        both = {(new, axis): tuple(entries[needed[new]].tensor.shape[axis] for entries in pair) for new, axis in axes}
        reference = next((key for key, own in both.items() if own == varying[0]), axes[0])
        lengths = both[reference]
    return Blank(pair[0][place.entry].layout, sizes, reference, (lengths[0], lengths[1]), place.dtype)


def _noisy(source: NoiseSource) -> NotCacheable:
    return NotCacheable(
        what="Samples of differing length cannot be cached: noise of a layer that is not frozen feeds frozen layers.",
        where=f"{source.container or 'the model'}, {source.line}", received="dropout before a frozen layer",
        do=f"turn it off (model.get_submodule({source.container!r}).p = 0.0; in transformers: config.dropout_rate = 0 "
        "before the model is made); pad all samples to one length in the dataset (padding='max_length' of a "
        "tokenizer); or train with frostline.fit(..., cache=False).",
    )  # fmt: skip


def _no_axis(received: str) -> NotCacheable:
    return NotCacheable(
        what="Samples of differing length cannot be cached: the length axis of what is stored cannot be found.",
        where="the frozen part, recorded at two lengths", received=received,
        do="pad all samples to one length in the dataset (padding='max_length' of a tokenizer), or train with "
        "frostline.fit(..., cache=False).",
    )  # fmt: skip
