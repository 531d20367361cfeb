"""Counterparts of the networks that are written as ONNX graphs: mostly the modules of Keras's, by other rules."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

from .. import by_hand as hand
from . import convolutions, sequences, small
from .counterpart import Counterpart, pad_same


class SameLower(nn.Module):
    """The odd row of the padding stands before the image: flipped, it stands after it."""

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Conv2d(6, 6, 3, stride=2)
        self.two, self.one = nn.Conv2d(6, 6, 4), nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.pad(x, 3, 2)).relu()
        return self.three(self.pad(self.two(self.pad(x, 4, 1)).relu(), 3, 2))

    @staticmethod
    def pad(x: Tensor, kernel: int, stride: int) -> Tensor:
        """As `SAME_LOWER` does."""
        return pad_same(x.flip((2, 3)), kernel, stride).flip((2, 3))


class TwoSteps(nn.Module):
    """What lies beside its weights in a second file."""

    def __init__(self) -> None:
        super().__init__()
        self.say = nn.Linear(16, 5)
        self.see = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16, eps=1e-3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.say(F.relu(self.see(x)).mean((2, 3)))


class Norms(small.Norms):
    """Every convolution with bias, every norm with its affine part."""

    def __init__(self) -> None:
        super().__init__()
        self.cv = nn.ModuleList([nn.Conv2d(3 if index == 0 else 6, 6, 3, padding=1) for index in range(4)])
        self.bn = nn.ModuleList([nn.BatchNorm2d(6, eps=eps) for eps in (1e-3, 1e-5, 1e-4, 1e-2)])


class Transposed(nn.Sequential):
    """Transposed convolutions that PyTorch has as they are."""

    def __init__(self) -> None:
        super().__init__(
            nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1),
        )  # fmt: skip


def lstm(arrays: hand.Arrays) -> hand.Leaves:
    """Two nodes into one module."""
    layers = ("lower", "upper")
    parts = [hand.onnx_recurrent(sequences.lstm(), hand.unit(arrays, name), i) for i, name in enumerate(layers)]
    return parts[0] | parts[1]


def packed(name: str) -> hand.Rule:
    """Query, key and value from one product; the output from another."""

    def rule(arrays: hand.Arrays) -> hand.Leaves:
        qkv, out = hand.unit(arrays, f"{name}_qkv"), hand.unit(arrays, f"{name}_out")
        return {
            "in_proj_weight": qkv["kernel"].T,
            "in_proj_bias": qkv["bias"],
            "out_proj.weight": out["kernel"].T,
            "out_proj.bias": out["bias"],
        }

    return rule


def same(name: str, **changes: object) -> Counterpart:
    """The counterpart of Keras, without axes to move and with other pairs."""
    table = convolutions.COUNTERPARTS | sequences.COUNTERPARTS | small.COUNTERPARTS
    pairs = {**table[name].pairs, **changes}
    return replace(table[name], pairs=pairs, moved=False)


BLOCKS = same("twelve_blocks", **{f"{index}.attn": packed(f"layer_{index}") for index in range(12)})

COUNTERPARTS = {
    "onnx/conv2d": same("conv2d", **{"mind.0": "hidden"}),
    "onnx/same_padding": same("same_padding"),
    "onnx/same_lower": Counterpart(SameLower, {"one": "first", "two": "second", "three": "third"}),
    "onnx/lstm": same("lstm", memory=lstm),
    "onnx/gru": same("gru"),
    "onnx/gru_reset_before": same("gru_reset_before"),
    "onnx/bidirectional": same("bidirectional", h="both_lstm", g="both_gru"),
    "onnx/square_dense": same("square_dense"),
    "onnx/constants": same("twins"),
    "onnx/twins": same("twins"),
    "onnx/external_data": Counterpart(
        TwoSteps, {"see.0": "low", "see.2": "high", "see.3": "high_norm", "say": "scores"}
    ),
    "onnx/batchnorm": replace(same("batchnorm"), build=Norms),
    "onnx/transposed": Counterpart(Transposed, {"0": "up_a", "2": "up_b", "4": "draw"}),
    "onnx/embeddings": same("embeddings"),
    "onnx/depthwise": same("depthwise"),
    "onnx/prelu": same("prelu"),
    "onnx/twelve_blocks": BLOCKS,
}
