"""The modules that an inserted BatchNorm needs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class LastAxisBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the features of (B, ..., F), where nn.BatchNorm1d would take axis 1 for them.

    Every position counts as a sample, as it does for a convolution.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, ..., F) to (B, ..., F)."""
        return super().forward(input.reshape(-1, input.shape[-1])).reshape(input.shape)


class AnswersForLayer(nn.Module):
    """Stands for its `layer`: attributes that it does not have itself (`weight`, `in_features`) are the layer's."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "layer" or "layer" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self._modules["layer"], name)


# The pair takes the name of the layer. Considered: a hook, which `state_dict` does not show and which is slow; a
# subclass of each kind of layer, one more class for each.
class Normalised(AnswersForLayer, nn.Sequential):
    """A layer and the norm after it, in the layer's place, for models that read the layer's attributes."""

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.add_module("layer", layer)
        self.add_module("norm", norm)
