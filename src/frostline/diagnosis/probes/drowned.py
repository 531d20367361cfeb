"""Layers whose inputs are large and nearly the same for all samples: what differs between these is drowned."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes, seed_generators
from frostline.diagnosis.probes.evaluation_pass import weights_of

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGE, _DROWNED, _GIVEN = 10.0, 1e-3, 1e-2  # root mean square of an input; shares of its square that differ
_FEWEST_ROWS = 8
_TAKES = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer)


def drowned_at(model: nn.Module, start: dict[str, Tensor], inputs: Any) -> tuple[str, float, float] | None:
    """(layer, share, size) of the first such layer; None without one, or where the model's own inputs are so.

    Args:
        model: Runs in the modes that it is in, and is left as it is.
        start: Its weights of before the training, by name.
        inputs: Of a batch.
    """
    count = batches.batch_size(inputs)
    given = [one for one in batches.leaves(inputs).values() if one.is_floating_point() and one.dim() > 1]
    if count < _FEWEST_ROWS or any(_share(one)[0] < _GIVEN for one in given):
        return None
    found: list[tuple[str, float, float]] = []

    def ask(name: str) -> Callable[..., None]:
        def hear(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            one = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
            if found or one is None or not one.is_floating_point() or one.dim() < 2 or len(one) != count:
                return
            share, size = _share(one)
            if share < _DROWNED and size > _LARGE:
                found.append((name, share, size))

        return hear

    hooks = [
        module.register_forward_pre_hook(ask(name), with_kwargs=True)
        for name, module in model.named_modules() if isinstance(module, _TAKES)
    ]  # fmt: skip
    try:
        with ExitStack() as stack:  # in the modes in which it trains: a BatchNorm takes away what all samples share
            for one in (kept_modes(model), kept_buffers(model), kept_attributes(model, numbers=True), kept_generators(),
                        weights_of(model, start), torch.no_grad()):  # fmt: skip
                stack.enter_context(one)
            seed_generators(0)
            batches.call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _share(values: Tensor) -> tuple[float, float]:
    """(share of the mean square that differs between samples, its root); all of it where nothing is known."""
    square = float(values.detach().float().square().mean())
    if not 0 < square < float("inf"):
        return 1.0, 0.0
    return float(values.detach().float().var(0, correction=0).mean()) / square, square**0.5
