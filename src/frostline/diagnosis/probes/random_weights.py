"""Frozen layers whose weights are as they were drawn: what should be pretrained, and is not."""

from __future__ import annotations

import math

from torch import Tensor, nn

_FEWEST = 256  # weights, of which the shape of their distribution is known
_CLOSE = 0.06  # relative difference of a moment; of 256 uniform values the deviation is known to 0.03
_EDGE = 0.97  # of the bound, which the largest of so many values reaches
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def frozen_at_random(model: nn.Module) -> tuple[str, ...]:
    """Names of frozen layers whose weights are uniform within the bounds that a new layer is drawn in.

    Training leaves neither the bounds nor the even density of what `torch.nn` draws.

    Args:
        model: Its parameters are read.
    """
    return tuple(
        name for name, module in model.named_modules()
        if isinstance(module, _LAYERS) and not any(one.requires_grad for one in module.parameters())
        and _is_as_drawn(module.weight)
    )  # fmt: skip


def _is_as_drawn(weight: Tensor) -> bool:
    if weight.dim() < 2 or weight.numel() < _FEWEST:
        return False
    values = weight.detach().float().flatten()
    bound = 1.0 / math.sqrt(weight[0].numel())
    largest = float(values.abs().max())
    if not _EDGE * bound < largest <= bound * (1 + 1e-4):
        return False
    square, fourth = float(values.square().mean()), float(values.pow(4).mean())
    return abs(square / (bound**2 / 3) - 1) < 2 * _CLOSE and abs(fourth / (bound**4 / 5) - 1) < 3 * _CLOSE
