"""Models of half or double precision: their dtype, and the conversion of their inputs to it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from frostline.caching import Faster, FollowsLengths, items_of, sent
from frostline.training import in_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from frostline.core.item_form import ItemForm
    from frostline.core.padding import PaddedBatch
    from frostline.core.records import FrontierTensor
    from frostline.selection import Taps
    from frostline.splitting import FasterPart, Split


def precision_of(model: nn.Module) -> torch.dtype | None:
    """The dtype of a model whose floats are all of half or double precision: its inputs are converted to it."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return next(iter(kinds)) if len(kinds) == 1 and kinds <= {torch.float16, torch.bfloat16, torch.float64} else None


class InPrecision:
    """A frozen part whose model has half or double precision: its inputs are converted before they reach it."""

    def __init__(self, part: Split | Taps | FasterPart, dtype: torch.dtype) -> None:
        self._part, self._dtype = part, dtype
        self.check_unchanged, self.check_weights = part.check_unchanged, part.check_weights

    def sent(self) -> Callable[[], InPrecision]:
        """What makes it in another process; a faster pass is made there by none."""
        return partial(_made_again, sent(self._part), self._dtype)

    @property
    def recipe(self) -> Mapping[str, str]:
        """As of the part itself, which is another one when it follows lengths."""
        return self._part.recipe

    @property
    def frontier(self) -> tuple[FrontierTensor, ...]:
        """As of the part itself."""
        return self._part.frontier

    @property
    def item_form(self) -> ItemForm:
        """As of the part itself."""
        return items_of(self._part)

    @property
    def is_steered(self) -> bool:
        """As of the part itself."""
        return self._part.is_steered

    @property
    def example_features(self) -> tuple[Tensor, ...] | None:
        """As of the part itself, if it has any."""
        return getattr(self._part, "example_features", None)

    @property
    def notes(self) -> Sequence[str]:
        """As of the part itself, where its pass is a faster one."""
        return self._part.notes if isinstance(self._part, Faster) else ()

    @property
    def rounding(self) -> torch.dtype | None:
        """As of the part itself, where its pass is a faster one."""
        return self._part.rounding if isinstance(self._part, Faster) else None

    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """As the part itself."""
        return self._part.extract(in_dtype(inputs, self._dtype))

    def prove(self, inputs: Any, features: tuple[Tensor, ...]) -> None:
        """As the part itself."""
        self._part.prove(in_dtype(inputs, self._dtype), features)

    def follow_lengths(self, shorter: Any, longer: Any) -> None:
        """As the part itself."""
        assert isinstance(self._part, FollowsLengths)
        self._part.follow_lengths(in_dtype(shorter, self._dtype), in_dtype(longer, self._dtype))

    def prove_padded(self, batch: PaddedBatch, features: tuple[Tensor, ...]) -> None:
        """As the part itself."""
        assert isinstance(self._part, FollowsLengths)
        self._part.prove_padded(replace(batch, inputs=in_dtype(batch.inputs, self._dtype)), features)


def _made_again(make: Callable[[], Any], dtype: torch.dtype) -> InPrecision:
    return InPrecision(make(), dtype)
