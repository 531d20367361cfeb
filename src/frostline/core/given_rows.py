"""Rows that loaders of cached features have given out lately, by which a head finds whether its batch is one of theirs.

Legend: B batch, R rows that were given out, P places of a row that are compared first.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from frostline.core.errors import DataError
from frostline.core.inputs import flat_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.core.records import FrontierTensor

_KEPT = 8  # batches: loops that look ahead are fewer batches behind
_ROWS, _PLACES = 16, 64  # of a batch, and of a row
_AT_ONCE = 2**26  # bytes of the rows that are read at once to look for others
_ROUNDED = 2**-7  # of the largest value: what a conversion to bfloat16 and back may change


class Source(Protocol):
    """Where rows come from."""

    frontier: tuple[FrontierTensor, ...]
    keys: Tensor  # one for each sample

    def features(self, samples: Tensor) -> tuple[Tensor, ...]:
        """The features of these samples."""
        ...


class GivenRows:
    """The last batches that were given out by the loaders of one split.

    A batch is judged only if a loader has given out a batch since the head was called last: features that the caller
    keeps in a list or extracts himself are none of its business. Calls are judged at powers of two. Rows that were not
    given out lately are looked for among all rows: a loop may look far ahead, keep rows for later, or read them in
    worker processes after it has looked at one itself.
    """

    def __init__(self) -> None:
        self._last: deque[tuple[weakref.ref[Any], Tensor] | None] = deque(maxlen=_KEPT)  # None: may be changed
        self._known: list[weakref.ref[Any]] = []
        self._since = self._calls = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_last": deque(maxlen=_KEPT), "_known": [], "_since": 0, "_calls": 0}

    def know(self, source: Source) -> None:
        """Rows of this source may come, also from other processes."""
        self._known = [*(ref for ref in self._known if ref() is not None), weakref.ref(source)]

    def note(self, source: Source, samples: Tensor) -> None:
        """These samples are given out."""
        self._last.append((weakref.ref(source), samples))
        self._since += 1

    def note_free(self) -> None:
        """A batch is given out that is no batch of rows, or need not stay one: those around it are not judged."""
        self._last.append(None)
        self._since += 1

    def forget(self) -> None:
        """What the head is given next is not judged: it need not come from a loader."""
        self._since = 0

    def check(self, features: Sequence[Tensor]) -> bool:
        """Raise if rows of this batch are not among those that were given out.

        Returns:
            True if this call is one of those that are judged.

        Raises:
            DataError: If the batch was changed on its way from the loader to the head.
        """
        since, self._since = self._since, 0
        if not 1 <= since <= _KEPT or None in self._last:
            return False
        self._calls += 1
        if self._calls & (self._calls - 1):
            return False
        last = [own for own in self._last if own is not None]
        found = [(source, samples) for ref, samples in last if (source := ref()) is not None]
        at = _compared(found[0][0].frontier) if found else None
        if at is None or at >= len(features) or not features[at].dim() or not len(features[at]):
            return True  # the head itself refuses these
        given_R = torch.cat([flat_rows(source.features(samples.cpu())[at]).cpu() for source, samples in found])
        chosen = torch.linspace(0, len(features[at]) - 1, min(_ROWS, len(features[at]))).long()
        own_B = flat_rows(features[at].detach())[chosen.to(features[at].device)].cpu()
        odd = _unknown(own_B, given_R.to(own_B.dtype))
        others = odd
        for rows_R in self._every(at, [source for source, _ in found]) if odd else ():
            others = [others[own] for own, _ in _unknown(own_B[[row for row, _ in others]], rows_R.to(own_B.dtype))]
            if not others:
                break
        if others:
            row, difference = others[0]
            raise DataError(
                what="The batch was changed between the loader and the head.",
                where=f"split.head, {found[0][0].frontier[at].name}",
                received=f"{len(others)} of {len(chosen)} rows that were compared are not rows of the loader; row "
                f"{int(chosen[row])} differs from the nearest one by up to {difference:.2g}",
                do="give the head what the loader gives. Work on inputs (normalisation, augmentation) belongs into the "
                "dataset, before FeatureCache.fill (random: views=K); work on features into the trainable part of the "
                "model; MixUp is data.loader(mix=...). Features that are changed on purpose (manifold mixup): "
                "data.loader(..., may_change=True).",
            )  # fmt: skip
        return True

    def _every(self, at: int, sources: Sequence[Source]) -> Iterator[Tensor]:
        """(R, P) this tensor of all samples of all sources, part by part."""
        known: list[Source] = [source for ref in self._known if (source := ref()) is not None]
        for source in {id(own): own for own in (*sources, *known)}.values():
            tensor = source.frontier[at]
            count = max(1, _AT_ONCE // max(1, sum(own.bytes_per_sample for own in source.frontier)))
            if not tensor.is_varying:
                for samples in torch.arange(len(source.keys), device="cpu").split(count):
                    yield flat_rows(source.features(samples)[at]).cpu()


def _compared(frontier: Sequence[FrontierTensor]) -> int | None:
    """The first tensor that has a row of one size for each sample, computed by the model."""
    for at, tensor in enumerate(frontier):
        if not tensor.shared and not tensor.is_input and not tensor.is_varying:
            return at
    return None


def _unknown(own_B: Tensor, given_R: Tensor) -> list[tuple[int, float]]:
    """(row, largest difference from the nearest given row) of rows that are none of them."""
    if own_B.shape[1:] != given_R.shape[1:] or own_B.shape[1] == 0:
        return []  # the head itself refuses another shape
    places = torch.linspace(0, own_B.shape[1] - 1, min(_PLACES, own_B.shape[1])).long()
    nearest_B = torch.stack([_apart(own, given_R[:, places]).argmin() for own in own_B[:, places]])
    found: list[tuple[int, float]] = []
    for row, (own, given) in enumerate(zip(own_B, given_R[nearest_B], strict=True)):
        difference = float(_apart(own, given[None]))
        finite = given[given.isfinite()].abs()
        if not difference <= _ROUNDED * float(finite.max() if len(finite) else 0):
            found.append((row, difference))
    return found


def _apart(own_P: Tensor, given_RP: Tensor) -> Tensor:
    """(R,) the largest difference of each row from this one; values that are equal, also infinite ones, differ by 0."""
    own, given = own_P.double(), given_RP.double()
    return torch.where(own == given, 0.0, (own - given).abs()).nan_to_num(float("inf"), float("inf")).amax(1)
