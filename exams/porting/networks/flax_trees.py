"""Counterparts of the networks of Flax: mostly the modules of Keras's, by other rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from .. import by_hand as hand
from . import convolutions, images, sequences, small
from .counterpart import Counterpart

ALIKE = (
    "same_padding", "depthwise", "transposed_same", "transposed_valid", "batchnorm", "attention", "embeddings", "norms",
    "twins", "square_dense", "conv2d", "grouped",
)  # fmt: skip


class Vision(nn.Module):
    """A transformer on patches with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 17, 8))
        self.classes = nn.Parameter(torch.zeros(1, 1, 8))
        self.patchify = nn.Conv2d(3, 8, 4, stride=4)
        self.depths = nn.ModuleList([sequences.Block(16, 1e-6, before=True) for _ in range(3)])
        self.ln, self.logits = nn.LayerNorm(8, eps=1e-6), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patchify(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.classes.expand(len(x), -1, -1), x], 1) + self.positions
        for depth in self.depths:
            x = depth(x)
        return self.logits(self.ln(x)[:, 0])


def cells(build: hand.Callable[[], nn.RNNBase], *names: str) -> hand.Rule:
    """Cells of the source into one layer of PyTorch."""
    return lambda arrays: hand.flax_recurrent(build(), [hand.unit(arrays, name) for name in names])


def both(kind: type[nn.RNNBase], name: str) -> hand.Rule:
    """Both directions."""
    return cells(lambda: kind(6, 3, bidirectional=True), f"{name}_0", f"{name}_1")


def resnet() -> dict[str, str]:
    """Flax numbers the layers of each block anew; its shortcut comes last."""
    pairs = {"stem.0": "Conv_0", "stem.1": "BatchNorm_0", "classify": "Dense_0"}
    parts = (("reduce", "r_bn"), ("spatial", "s_bn"), ("restore", "e_bn"), ("skip.0", "skip.1"))
    for index, block in enumerate(("stage1.0", "stage1.1", "stage2.0", "stage2.1")):
        for at, (conv, norm) in enumerate(parts if block.endswith("0") else parts[:3]):
            pairs[f"{block}.{conv}"] = f"Bottleneck_{index}/Conv_{at}"
            pairs[f"{block}.{norm}"] = f"Bottleneck_{index}/BatchNorm_{at}"
    return pairs


def unet() -> dict[str, str]:
    """As Keras numbers them, from 0."""
    names = {"conv2d": "Conv_0", "conv2d_transpose": "ConvTranspose_0"}
    return {
        ours: names.get(theirs, theirs.replace("conv2d_transpose_", "ConvTranspose_").replace("conv2d_", "Conv_"))
        for ours, theirs in convolutions.COUNTERPARTS["unet"].pairs.items()
    }


def vit() -> dict[str, str | hand.Rule]:
    """Blocks, and the two parameters that are no layer's."""

    def parameters(arrays: hand.Arrays) -> hand.Leaves:
        return {"positions": arrays["pos_embedding"], "classes": arrays["cls"]}

    pairs = {"": parameters, "patchify": "embedding", "ln": "encoder_norm", "logits": "head"}
    return pairs | sequences.blocks("depths.{}", "encoderblock", 3, "/")


def scanned() -> dict[str, hand.Rule]:
    """One entry of every array for each block."""

    def entry(index: int, part: str, ours: str) -> hand.Rule:
        def rule(arrays: hand.Arrays) -> hand.Leaves:
            source = {leaf: value[index] for leaf, value in hand.unit(arrays, f"block/{part}").items()}
            return hand.flax(sequences.Block(8, 1e-6, before=True).get_submodule(ours), source)

        return rule

    parts = {"ln_1": "norm1", "ln_2": "norm2", "attn": "attention", "mlp.0": "up", "mlp.2": "down"}
    return {f"{i}.{ours}": entry(i, theirs, ours) for i in range(12) for ours, theirs in parts.items()}


class Masked(nn.Module):
    """A masked language model: its output matrix is its table of words."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(8, 32)
        self.at, self.tok = nn.Embedding(8, 8), nn.Embedding(32, 8)
        self.scores.weight = self.tok.weight
        self.blocks = nn.ModuleList([sequences.Block(16, 1e-12, before=False) for _ in range(3)])
        self.ln_in, self.ln_out = nn.LayerNorm(8, eps=1e-12), nn.LayerNorm(8, eps=1e-12)
        self.mix = nn.Linear(8, 8)

    def forward(self, words: Tensor, places: Tensor) -> Tensor:
        x = self.ln_in(self.tok(words) + self.at(places))
        for block in self.blocks:
            x = block(x)
        return self.scores(self.ln_out(nn.functional.gelu(self.mix(x))))


def hf_bert() -> dict[str, str | hand.Rule]:
    """Names of Hugging Face."""
    parts = {
        "ln_1": "attention/output/LayerNorm", "ln_2": "output/LayerNorm", "mlp.0": "intermediate/dense",
        "mlp.2": "output/dense",
    }  # fmt: skip
    head, tables = "cls/predictions", "bert/embeddings"

    def scores(arrays: hand.Arrays) -> hand.Leaves:
        return {"weight": arrays[f"{tables}/word_embeddings/embedding"], "bias": arrays[f"{head}/bias"]}

    def packed(index: int) -> hand.Rule:
        def rule(arrays: hand.Arrays) -> hand.Leaves:
            name = f"bert/encoder/layer/{index}/attention"
            sources = [hand.unit(arrays, f"{name}/self/{part}") for part in ("query", "key", "value")]
            out = hand.unit(arrays, f"{name}/output/dense")
            return {
                "in_proj_weight": np.concatenate([source["kernel"].T for source in sources]),
                "in_proj_bias": np.concatenate([source["bias"] for source in sources]),
                "out_proj.weight": out["kernel"].T,
                "out_proj.bias": out["bias"],
            }

        return rule

    pairs: dict[str, str | hand.Rule] = {
        "tok": f"{tables}/word_embeddings", "at": f"{tables}/position_embeddings", "ln_in": f"{tables}/LayerNorm",
        "mix": f"{head}/transform/dense", "ln_out": f"{head}/transform/LayerNorm", "scores": scores,
    }  # fmt: skip
    for index in range(3):
        pairs |= {f"blocks.{index}.{ours}": f"bert/encoder/layer/{index}/{theirs}" for ours, theirs in parts.items()}
        pairs[f"blocks.{index}.attn"] = packed(index)
    return pairs


KERAS = convolutions.COUNTERPARTS | images.COUNTERPARTS | sequences.COUNTERPARTS | small.COUNTERPARTS
STACKED = {"memory": cells(sequences.lstm, "LSTMCell_0", "OptimizedLSTMCell_0"), "readout": "out"}

COUNTERPARTS = {f"flax/{name}": KERAS[name] for name in ALIKE} | {
    "flax/lstm": replace(KERAS["lstm"], pairs=STACKED),
    "flax/gru": replace(KERAS["gru"], pairs={"memory": "GRUCell_0", "readout": "out"}),
    "flax/bidirectional": replace(
        KERAS["bidirectional"], pairs={"h": both(nn.LSTM, "LSTMCell"), "g": both(nn.GRU, "GRUCell"), "tail": "out"}
    ),
    "flax/resnet": replace(KERAS["resnet"], pairs=resnet()),
    "flax/vit": Counterpart(Vision, vit(), moved=True),
    "flax/twelve_blocks": replace(KERAS["twelve_blocks"], pairs=sequences.blocks("{}", "layer", 12, "/")),
    "flax/scanned": replace(KERAS["twelve_blocks"], pairs=scanned()),
    "flax/hf_bert": Counterpart(Masked, hf_bert()),
    "flax/unet": replace(KERAS["unet"], pairs=unet()),
    "flax/twelve_convs": replace(KERAS["twelve_convs"], pairs={f"steps.{i}": f"Conv_{i}" for i in range(12)}),
}
