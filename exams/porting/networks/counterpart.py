"""A PyTorch module with names and structure of its own, and which of its layers is which of the source network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from ..by_hand import Pairs


@dataclass(frozen=True)
class Counterpart:
    """One module of the exam.

    Attributes:
        build: Makes it.
        pairs: By the name of a layer, the source layer (see `by_hand`).
        moved: Whether inputs and outputs with more than two axes have their channels last in the source.
        refused: Why the module cannot represent the source network; empty if it can.
        golden_only: Why no port without golden outputs is judged; empty if all are.
        untold: Files in which nothing tells how the network computes, so that they are ported with golden outputs only.
    """

    build: Callable[[], nn.Module]
    pairs: Pairs
    moved: bool = False
    refused: str = ""
    golden_only: str = ""
    untold: tuple[str, ...] = ()


def pad_same(x: Tensor, kernel: int, stride: int, dilation: int = 1, value: float = 0.0) -> Tensor:
    """Pad every axis after the first two as TensorFlow's `SAME` does: the odd one after the image."""
    pads: list[int] = []
    for size in reversed(x.shape[2:]):
        total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)
