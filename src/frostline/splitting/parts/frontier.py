"""The frontier: the frozen tensors that the head needs, where a run computes them, and how they follow the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.core.errors import NotCacheable, SplitError
from frostline.core.records import FrontierTensor
from frostline.core.tolerances import batch_tolerance, relative_difference
from frostline.splitting.calls.containers import is_same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from frostline.splitting.calls.addresses import Point
    from frostline.splitting.recording.run_record import Crossing, Recording


@dataclass(frozen=True)
class Entry:
    """One frontier tensor, and how `extract` gets hold of it.

    Attributes:
        origin: The call that makes it.
        read: The later in-place call after which it is read, or None.
        is_changed_later: True if the model writes into it afterwards, so that a copy is taken at once.
        from_training: True if only a run in training mode makes it.
        layout: How it follows the batch.
        tensor: Its public record.
    """

    origin: Point
    read: Point | None
    is_changed_later: bool
    from_training: bool
    layout: Layout
    tensor: FrontierTensor


@dataclass(frozen=True)
class Frontier:
    """The entries, and for each mode which entry every placeholder of its graph stands for."""

    entries: tuple[Entry, ...]
    eval_slots: tuple[int, ...]
    train_slots: tuple[int, ...]

    @property
    def has_training(self) -> bool:
        """True if some tensor is made only by a run in training mode."""
        return any(entry.from_training for entry in self.entries)

    @property
    def tensors(self) -> tuple[FrontierTensor, ...]:
        """The public records of the entries."""
        return tuple(entry.tensor for entry in self.entries)

    def in_order_of(self, extracted: Sequence[Tensor | None]) -> Frontier:
        """The same with the memory order of tensors as `extract` finds them.

        Noise is drawn in that order, and a module may take a faster path while nobody listens (frozen attention).
        """
        entries = (
            replace(entry, layout=replace(entry.layout, order=memory_order(tensor)))
            if tensor is not None and entry.layout.axis is not None
            else entry
            for entry, tensor in zip(self.entries, extracted, strict=True)
        )
        return Frontier(tuple(entries), self.eval_slots, self.train_slots)


Pair = tuple["Recording", "Recording"]


class DependsOnBatch(Exception):  # noqa: N818 (a signal inside this pillar, never seen by callers)
    """A crossing tensor cannot be stored per sample: the head must make it again from what can."""

    def __init__(self, origins: frozenset[Point], error: NotCacheable) -> None:
        self.origins, self.error = origins, error
        super().__init__(error)


def find_frontier(evaluated: Pair, trained: Pair) -> Frontier:
    """The union of the frontiers of both modes; each pair holds the runs at the small and the large batch size.

    Raises:
        DependsOnBatch: If a frontier tensor follows the batch in no way that can be stored per sample.
    """
    entries: list[Entry] = []
    eval_slots = [_slot(entries, a, b, evaluated, False) for a, b in _both(evaluated)]
    train_slots: list[int] = []
    for a, b in _both(trained):
        made_in_eval = _is_made(a, evaluated[0]) and _is_made(b, evaluated[1])
        train_slots.append(_slot(entries, a, b, evaluated if made_in_eval else trained, not made_in_eval))
    return Frontier(tuple(entries), tuple(eval_slots), tuple(train_slots))


def _both(pair: Pair) -> list[tuple[Crossing, Crossing]]:
    # the two runs made the same calls (`generalise` has seen to it), so their crossings pair up
    return list(zip(pair[0].crossings, pair[1].crossings, strict=True))


def _is_made(crossing: Crossing, recording: Recording) -> bool:
    """Whether evaluation makes the tensor as well: its features serve both modes, and are stored once."""
    made = recording.origins.get(crossing.origin)
    return made is not None and made.shape == crossing.tensor.shape and made.dtype == crossing.tensor.dtype


def _slot(entries: list[Entry], a: Crossing, b: Crossing, source: Pair, from_training: bool) -> int:
    for at, entry in enumerate(entries):
        # One call may cross in both modes, and more than once: it is stored once for each value that it had.
        if (entry.origin, entry.read, entry.from_training) == (b.origin, b.read, from_training):
            return at
    small, large = source[0].origins[a.origin], source[1].origins[b.origin]
    layout = find_layout(small, large, source[0].batch_size, source[1].batch_size)
    if layout is None or not is_per_sample(small, large, layout, source[0].batch_size):
        raise DependsOnBatch(frozenset([a.origin, b.origin]), NotCacheable(
            what=f"Cannot store the output of {b.name!r} per sample: it does not follow the batch.",
            where=b.name,
            received=f"shape {tuple(small.shape)} for {source[0].batch_size} samples, "
            f"{tuple(large.shape)} for {source[1].batch_size}"
            + (", with other values for the same samples" if layout else ""),
            do="freeze to a layer whose output has one entry per sample, or keep that layer trainable.",
        ))  # fmt: skip
    record = record_of(_free_name(b.name, entries, from_training=from_training), large, layout)
    entries.append(Entry(b.origin, b.read, a.is_changed_later or b.is_changed_later, from_training, layout, record))
    return len(entries) - 1


def _free_name(name: str, entries: Sequence[Entry], *, from_training: bool) -> str:
    """The name of a call, or another one where a call of the other mode has it: rows are stored by name."""
    taken = {entry.tensor.name for entry in entries}
    own = f"{name} in training" if from_training and name in taken else name
    return next(free for free in chain([own], (f"{own} {at}" for at in count(2))) if free not in taken)


def record_of(name: str, tensor: Tensor, layout: Layout) -> FrontierTensor:
    """The public record of a tensor that is stored in this layout."""
    is_shared = layout.axis is None
    shape = tuple(tensor.shape) if is_shared else tuple(layout.to_rows(tensor).shape[1:])
    size = 0 if is_shared else math.prod(shape) * tensor.element_size()  # shared tensors are stored once, not by row
    return FrontierTensor(name, shape, tensor.dtype, size, is_shared)


def is_per_sample(small: Tensor, large: Tensor, layout: Layout, count: int) -> bool:
    """True for a shared tensor with equal values, and for rows that are the same in the larger batch."""
    if layout.axis is None:
        return is_same(small, large)
    ours, theirs = layout.to_rows(small.detach()), layout.to_rows(large.detach())[:count]
    return relative_difference(theirs, ours) <= batch_tolerance(ours.dtype, is_on_gpu=ours.is_cuda)


@dataclass(frozen=True)
class Layout:
    """From the tensor in the model to rows of samples, and back.

    Attributes:
        axis: The axis that follows the batch; None for a shared tensor.
        fold: k, if the axis has the size k x B.
        is_batch_major: True if the samples' entries lie together in the folded axis (b0 b0 b1 b1).
        order: The axes by descending stride, where memory is not in plain order (channels last).
    """

    axis: int | None
    fold: int = 1
    is_batch_major: bool = True
    order: tuple[int, ...] | None = None

    @property
    def is_plain(self) -> bool:
        """True if the tensor is stored as the model made it."""
        return self.axis is None or (self.axis == 0 and self.fold == 1 and self.order is None)

    def fits(self, tensor: Tensor, batch_size: int) -> bool:
        """True if the tensor has k entries for every sample of the batch."""
        return self.axis is None or (self.axis < tensor.dim() and tensor.shape[self.axis] == self.fold * batch_size)

    def to_rows(self, tensor: Tensor) -> Tensor:
        """(k x B on some axis) -> (B, ...)."""
        if self.axis is None:
            return tensor
        rows = tensor.movedim(self.axis, 0)
        if self.fold == 1:
            return rows
        if self.is_batch_major:
            return rows.unflatten(0, (-1, self.fold))
        return rows.unflatten(0, (self.fold, -1)).transpose(0, 1)

    def from_rows(self, rows: Tensor) -> Tensor:
        """The inverse of `to_rows`, with the memory order that the model's own tensor has."""
        if self.axis is None:
            return rows
        if self.fold > 1:
            rows = (rows if self.is_batch_major else rows.transpose(0, 1)).flatten(0, 1)
        tensor = rows.movedim(0, self.axis)
        if self.order is None:
            return tensor.contiguous()
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return tensor.permute(self.order).contiguous().permute(inverse)


def find_layout(small: Tensor, large: Tensor, small_size: int, large_size: int) -> Layout | None:
    """How a tensor follows the batch, from its values at two batch sizes.

    The small batch must be the first samples of the large one. None if no single axis follows the batch.
    """
    if small.dim() != large.dim():
        return None
    axes = [at for at in range(small.dim()) if small.shape[at] != large.shape[at]]
    if not axes:  # equal shapes at both sizes: a tensor for all samples, if its values agree as well
        return Layout(None)
    axis = axes[0]
    fold, rest = divmod(small.shape[axis], small_size)
    if len(axes) > 1 or rest or fold * large_size != large.shape[axis] or fold == 0:
        return None
    order = memory_order(large)
    if fold == 1:
        return Layout(axis, order=order)
    # Shapes do not show whether entries of a sample lie together; values of the shared samples do.
    layouts = [Layout(axis, fold, is_major, order) for is_major in (True, False)]
    return min(layouts, key=lambda layout: _distance(layout, small, large, small_size))


def from_rows(rows: Tensor, layout: Layout) -> Tensor:
    """`layout.from_rows(rows)` as a function of the graph."""
    return layout.from_rows(rows)


def _distance(layout: Layout, small: Tensor, large: Tensor, small_size: int) -> float:
    difference = layout.to_rows(large)[:small_size].double() - layout.to_rows(small).double()
    return float(torch.nan_to_num(difference).abs().max()) if difference.numel() else 0.0


def memory_order(tensor: Tensor) -> tuple[int, ...] | None:
    """The axes by descending stride, or None for plain order; broadcast axes have no order of their own."""
    if tensor.is_contiguous() or 0 in tensor.stride():
        return None
    order = tuple(sorted(range(tensor.dim()), key=lambda at: -tensor.stride(at)))
    return None if order == tuple(range(tensor.dim())) else order


def check_frontier(model: nn.Module, frontier: tuple[FrontierTensor, ...]) -> None:
    """Raise unless some frozen value reaches the head.

    Raises:
        SplitError: If everything depends on a trainable weight; tied weights are named.
    """
    if any(not tensor.is_input and not tensor.shared for tensor in frontier):
        return
    first, weight = next((name, own) for name, own in model.named_parameters() if own.requires_grad)
    # a tied output layer makes the input layer train
    tied = [name for name, own in model.named_parameters(remove_duplicate=False) if own is weight]
    raise SplitError(
        what="Everything trains from the input on: no frozen layer comes before the first trainable one.",
        where=f"{first} is trainable" + (f", and tied to {', '.join(map(repr, tied[1:]))}" if tied[1:] else ""),
        received="a frontier of " + (", ".join(tensor.name for tensor in frontier) or "nothing"),
        do=(
            f"untie {first!r} (for example config.tie_word_embeddings=False, or a copy of the weight), freeze it, "
            "then split again."
            if tied[1:]
            else f"freeze from the input up: frostline.freeze(model, through=...) must include {first!r}."
        ),
    )
