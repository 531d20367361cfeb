"""Modules that take every tensor of their source and compute something else: settings that no shape shows.

A port cannot succeed here. It may refuse, or list the difference in its certificate; anything else is silently wrong.
Only files that state the setting, or golden outputs, let it know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from .networks.convolutions import SamePadding

if TYPE_CHECKING:
    from collections.abc import Callable


def set_all(kind: type[nn.Module], name: str, value: object) -> Callable[[nn.Module], None]:
    """Set an attribute of every layer of a kind."""

    def change(module: nn.Module) -> None:
        for part in module.modules():
            if isinstance(part, kind):
                setattr(part, name, value)

    return change


def put(name: str, layer: nn.Module) -> Callable[[nn.Module], None]:
    """Put another layer without weights in the place of one."""

    def change(module: nn.Module) -> None:
        module.set_submodule(name, layer)

    return change


class Symmetric(SamePadding):
    """The image one row and one column further, as `padding=1` has it where the source pads after the image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (1, 0, 1, 0))[..., :30, :30])


def padded(module: nn.Module) -> None:
    """Exchange what it computes."""
    module.__class__ = Symmetric


def heads(module: nn.Module) -> None:
    """Four heads of two where the source has two of four."""
    for part in module.modules():
        if isinstance(part, nn.MultiheadAttention):
            part.num_heads, part.head_dim = 4, 2


TRAPS = {  # by name: the networks, what is changed in their counterparts
    "epsilon of BatchNorm": (("keras/batchnorm", "onnx/batchnorm"), set_all(nn.BatchNorm2d, "eps", 1e-1)),
    "epsilon of LayerNorm": (("keras/norms", "onnx/embeddings"), set_all(nn.LayerNorm, "eps", 1.0)),
    "epsilon of GroupNorm": (("keras/norms",), set_all(nn.GroupNorm, "eps", 1.0)),
    "slope of LeakyReLU": (("keras/prelu", "onnx/prelu"), set_all(nn.LeakyReLU, "negative_slope", 0.01)),
    "tanh form of GELU": (("keras/twelve_blocks", "onnx/twelve_blocks"), set_all(nn.GELU, "approximate", "tanh")),
    "another activation": (("keras/square_dense", "onnx/square_dense"), put("3", nn.ReLU())),
    "padding on both sides": (("keras/same_padding", "onnx/same_padding"), padded),
    "number of heads": (("keras/attention", "onnx/twelve_blocks"), heads),
    "mean instead of largest pooling": (("keras/prelu", "onnx/prelu"), put("4", nn.AdaptiveAvgPool2d(1))),
    "mode of padding": (("keras/twelve_convs",), set_all(nn.Conv2d, "padding_mode", "reflect")),
    "dilation of a convolution": (
        ("keras/grouped",),
        set_all(nn.Conv2d, "dilation", (1, 1)),
    ),
}

WITH_GRAPH = ("model.keras", "model.onnx")
WITHOUT = "model.weights.h5"
