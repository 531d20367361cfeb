"""The proofs of the features: the same batch gives them twice, and a sample keeps its own in any company.

A sample may decide for its whole batch by a large value (`h * (h[0] < 1)`, `if h[0].max() > 1`). Few data sets show one
to a proof that looks at their first samples, so extreme ones are made from these.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import NotCacheable, SplitError
from frostline.core.tolerances import batch_tolerance, relative_difference
from frostline.splitting.calls.containers import is_same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.core.records import FrontierTensor

Features = tuple[Tensor, ...]

# How far beyond the samples of the example: large enough to pass a threshold; less in 16 bits, which end early.
_EXTREME, _EXTREME_16 = 1000.0, 30.0
# Batches of two plain samples, 0 and 1, and of extreme ones, 2 and 3.
_AT_THE_ENDS = ((2, 0, 1, 3), (3, 1, 0, 2))
# Batches that hold one sample twice: equal rows may be counted, or dropped.
_REPEATED = ((0, 0, 1), (1, 0, 1))
_AT_EVERY_PLACE = (((2, 0, 1), (0, 2, 1), (0, 1, 2)), ((3, 0, 1), (0, 3, 1), (0, 1, 3)))


@dataclass(frozen=True)
class Company:
    """What the proof runs.

    Attributes:
        run: The frozen part: (B, *shape) by frontier entry, or None if one was not made as it was recorded; and what
            reached Python in another way. What it raises at extreme samples says nothing of it: a check of the inputs,
            perhaps.
        holds: Whether the head is the model on a batch with these features; None if it fails, as it says itself then.
        frontier: What `run` gives.
    """

    run: Callable[[Any], tuple[Features | None, Sequence[Any]]]
    holds: Callable[[Any, Features], bool | None]
    frontier: tuple[FrontierTensor, ...]

    def prove(self, sample: Any, *, is_steered: bool) -> None:
        """Compare the features of two samples alone with theirs beside extreme samples, and the head with the model.

        Args:
            sample: Two samples.
            is_steered: True if values of the frozen part reach Python: then extreme samples may take a path of their
                own, which is proven when it is met, and which no place may choose. Where they take the recorded one,
                the head must be the model.

        Raises:
            NotCacheable: If extreme samples change others, or decide by their place.
            SplitError: If the head is not the model on them.
        """
        plain, _ = self.run(sample)
        if plain is None:
            return
        pool = batches.joined(sample, batches.joined(_extreme(sample, 1), _extreme(sample, -1)))
        pool = batches.rows(pool, torch.tensor([0, 1, 2, 4], device=plain[0].device))
        outcomes = [self._outcome(pool, places, plain) for places in (*_REPEATED, *_AT_THE_ENDS)]
        if not is_steered:
            if False in outcomes:
                raise _another_far_out()
            return
        for group in _AT_EVERY_PLACE:
            if {self._outcome(pool, places, plain) for places in group} == {True, False}:
                raise _decides_by_place()

    def _outcome(self, pool: Any, places: tuple[int, ...], plain: Features) -> bool | None:
        """Whether the head is the model on the samples at these places; None if the model does not take them."""
        batch = batches.rows(pool, torch.tensor(places, device=plain[0].device))
        try:
            features, differing = self.run(batch)
            is_model = features is not None and self.holds(batch, features)
        except Exception:  # the model checks its inputs, or cannot compute with these
            return None
        if features is not None:
            _compare(features, places, plain, self.frontier)
            if is_model is False and not differing:  # no batch of a fill would show it
                raise _another_far_out()
        return bool(is_model)


def _decides_by_place() -> NotCacheable:
    return NotCacheable(
        what="A sample decides for its whole batch, by its place: Python reads a value of one place.",
        where="the model's forward",
        received="another path where an extreme sample of a batch of three changes its place",
        do="decide by a value of each sample (torch.where), or by one of all samples (max, any); or train with "
        "frostline.fit(..., cache=False).",
    )


def _another_far_out() -> SplitError:
    return SplitError(
        what="The head is not the model on samples far from those of the example.",
        where="the model's forward",
        received="other outputs for samples that were scaled, as where a branch on `self.training` changes large "
        "values of the frozen part",
        do="pass an example whose samples differ as those of the dataset do; let frozen layers compute the same in "
        "both modes; or train with frostline.fit(..., cache=False).",
    )


def _compare(
    features: Features, places: tuple[int, ...], plain: Features, frontier: tuple[FrontierTensor, ...]
) -> None:
    for tensor, found, expected in zip(frontier, features, plain, strict=True):
        if tensor.shared or tensor.is_input:
            continue
        allowed = batch_tolerance(expected.dtype, is_on_gpu=expected.is_cuda)
        for at, number in enumerate(places):
            difference = relative_difference(found[at], expected[number]) if number < 2 else 0.0
            if difference > allowed:
                raise NotCacheable(
                    what=f"The output of {tensor.name!r} depends on the other samples of the batch.",
                    where=tensor.name,
                    received=f"relative difference {difference:.1e} beside extreme samples or its own twin, allowed "
                    f"{allowed:.0e}",
                    do="a layer that mixes samples must stay trainable: freeze the layers below it; or train with "
                    "frostline.fit(..., cache=False).",
                )


def _extreme(inputs: Any, sign: int) -> Any:
    """The same samples far out: floats are scaled, whole numbers are the largest or smallest; masks are all or none."""

    def change(tensor: Tensor) -> Tensor:
        is_mask = bool(((tensor == 0) | (tensor == 1)).all())
        if tensor.is_complex() or (tensor.is_floating_point() and not is_mask):
            return tensor * (sign * (_EXTREME_16 if tensor.element_size() == 2 else _EXTREME))
        ends = tensor.unique()
        return torch.full_like(tensor, ends[-1 if sign > 0 else 0].item())

    return batches.map_tensors(inputs, lambda tensor: change(tensor) if tensor.numel() else tensor)


def check_repeatable(
    model: nn.Module, extract: Callable[[], tuple[Tensor, ...]], names: list[str]
) -> tuple[tuple[Tensor, ...], float]:
    """Raise unless the same batch gives the same features twice, and no buffer moves.

    Returns:
        The features, and the seconds that the second pass took.

    Raises:
        NotCacheable: If it does not.
    """
    before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    first = extract()
    started = time.perf_counter()
    second = extract()
    elapsed_s = time.perf_counter() - started
    for name, buffer in model.named_buffers():
        if name in before and not is_same(before[name], buffer):
            raise NotCacheable(
                what=f"The frozen part changes its own state: the buffer {name!r} moves in the forward pass.",
                where=name,
                received="other values after a forward pass in inference mode",
                do="frostline.freeze that module, or keep its buffer still in inference mode.",
            )
    for name, a, b in zip(names, first, second, strict=True):
        if not is_same(a, b):
            largest = float((a.double() - b.double()).abs().max())
            raise NotCacheable(
                what=f"Cannot cache the output of {name!r}: the same batch gave two different results.",
                where=name,
                received=f"largest difference {largest:.1e}, allowed 0",
                do="remove the randomness (or the state) from that layer, or train with cache=False.",
            )
    return second, elapsed_s
