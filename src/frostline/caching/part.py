"""The interface of a frozen part, as the cache uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from frostline.core.inputs import LABEL_KEYS
from frostline.core.item_form import ItemForm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

    from frostline.core.given_rows import GivenRows
    from frostline.core.padding import PaddedBatch
    from frostline.core.records import FrontierTensor


class Recipe(Protocol):
    """What names the rows of a frozen part."""

    @property
    def recipe(self) -> Mapping[str, str]:
        """What makes a stored row valid, as text; another recipe is another set of rows."""
        ...

    @property
    def frontier(self) -> tuple[FrontierTensor, ...]:
        """What `extract` gives, in order."""
        ...


@runtime_checkable
class FollowsLengths(Protocol):
    """A frozen part that can take batches of any length, as a `Split` does."""

    def follow_lengths(self, shorter: Any, longer: Any) -> None:
        """Take batches of any length from now on; both batches hold the same samples at two lengths."""
        ...

    def prove_padded(self, batch: PaddedBatch, features: tuple[Tensor, ...]) -> None:
        """Raise if what trains on these padded features is not the model, at the places of the samples."""
        ...


class FrozenPart(Recipe, Protocol):
    """Anything whose output may be stored: a `Split` is one."""

    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """Features of a batch: (B, *shape) each, or the whole tensor for a shared one."""
        ...


@runtime_checkable
class TakesItems(Protocol):
    """A frozen part that says which parts of a dataset's items it takes, as a `Split` does."""

    @property
    def item_form(self) -> ItemForm:
        """How an item becomes (inputs, target)."""
        ...


def items_of(part: FrozenPart) -> ItemForm:
    """How an item becomes what a frozen part takes, and a target."""
    if isinstance(part, TakesItems):
        return part.item_form
    names = {tensor.name for tensor in part.frontier}
    return ItemForm(frozenset(key for key in LABEL_KEYS if f"input.{key}" in names))


@runtime_checkable
class CanBeFaster(Protocol):
    """A frozen part that can be computed in less time, with rows that are rounded in another way: a `Split` can."""

    def faster(self, ways: Sequence[str], batch_size: int, memory: Any) -> Faster:
        """The same frozen part, run in these ways; `memory` keeps what is measured, as `Proofs` does."""
        ...


@runtime_checkable
class Faster(FrozenPart, Protocol):
    """A frozen part that is computed in less time."""

    @property
    def notes(self) -> Sequence[str]:
        """What was measured, folded and compiled."""
        ...

    @property
    def rounding(self) -> torch.dtype | None:
        """What values are rounded to on the way; None if nothing is coarser than the features."""
        ...


@runtime_checkable
class Provable(Protocol):
    """A frozen part that holds a reference to its model, as a `Split` does."""

    @property
    def is_steered(self) -> bool:
        """True if values of the frozen part reach Python, where they may decide for a whole batch."""
        ...

    def prove(self, inputs: Any, features: tuple[Tensor, ...]) -> None:
        """Raise if what trains on the features of this batch is not the model."""
        ...

    def check_unchanged(self) -> None:
        """Raise if the frozen part no longer agrees with `recipe`: weights, buffers, code, settings."""
        ...

    def check_weights(self) -> None:
        """Raise if a weight or buffer of the frozen part has changed; quick enough for every epoch."""
        ...


@runtime_checkable
class ChecksBatches(Protocol):
    """A head that compares the batches of a training with what loaders have given out."""

    @property
    def given(self) -> GivenRows | None:
        """What it compares them with; None before its features were filled."""
        ...

    def check_batches_with(self, given: GivenRows) -> None:
        """Compare them with this."""
        ...
