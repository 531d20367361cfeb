"""The module run beside its source: golden outputs, or those of the file's own graph."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.inputs import call

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLERANCE = 1e-5  # of the largest output, in float32; stored halves allow what halves can show
_BY_DTYPE = {torch.float16: 2e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Golden:
    """Inputs and what the source network makes of them.

    Attributes:
        inputs: As the module takes them: a tensor, tuple or mapping.
        outputs: As the module gives them: one tensor, or several in order.
        kind: Where they come from.
    """

    inputs: Any
    outputs: tuple[Tensor, ...]
    kind: str = "golden outputs"

    @property
    def num_samples(self) -> int:
        """How many inputs there are."""
        return self.outputs[0].shape[0] if self.outputs and self.outputs[0].ndim else 1


def tolerance_of(model: nn.Module) -> float:
    """What may differ: more if the module computes in a half precision."""
    dtypes = {parameter.dtype for parameter in model.parameters()}
    return max((_BY_DTYPE.get(dtype, TOLERANCE) for dtype in dtypes), default=TOLERANCE)


def error_of(model: nn.Module, golden: Golden) -> float:
    """The largest difference of the module's outputs, in evaluation, relative to the largest output.

    Returns:
        Infinity if the outputs have other shapes or are not finite.
    """
    with _evaluating(model), torch.no_grad():
        found = _tensors(call(model, golden.inputs))
    if len(found) < len(golden.outputs):
        return float("inf")
    worst = 0.0
    for one, other in zip(found, golden.outputs, strict=False):
        if one.shape != other.shape or not bool(torch.isfinite(one).all()):
            return float("inf")
        largest = max(float(other.abs().max()), 1e-30) if other.numel() else 1.0
        worst = (
            max(worst, float((one.double().cpu() - other.double()).abs().max()) / largest) if other.numel() else worst
        )
    return worst


def _tensors(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        return [tensor for value in outputs.values() for tensor in _tensors(value)]
    if isinstance(outputs, (tuple, list)):
        return [tensor for value in outputs for tensor in _tensors(value)]
    return []


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
