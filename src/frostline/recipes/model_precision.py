"""Models of half or double precision: their dtype, and the conversion of their inputs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from frostline.training import in_dtype

if TYPE_CHECKING:
    from torch import Tensor, nn

    from frostline.selection import Taps
    from frostline.splitting import Split


def precision_of(model: nn.Module) -> torch.dtype | None:
    """The dtype of a model whose floats are all of half or double precision: its inputs are converted to it."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return next(iter(kinds)) if len(kinds) == 1 and kinds <= {torch.float16, torch.bfloat16, torch.float64} else None


class InPrecision:
    """A frozen part whose model has half or double precision: its inputs are converted before they reach it."""

    def __init__(self, part: Split | Taps, dtype: torch.dtype) -> None:
        self._part, self._dtype = part, dtype
        self.recipe, self.frontier, self.is_steered = part.recipe, part.frontier, part.is_steered
        self.check_unchanged, self.check_weights = part.check_unchanged, part.check_weights

    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """As the part itself."""
        return self._part.extract(in_dtype(inputs, self._dtype))

    def prove(self, inputs: Any, features: tuple[Tensor, ...]) -> None:
        """As the part itself."""
        self._part.prove(in_dtype(inputs, self._dtype), features)
