"""Counterparts of the networks of PaddlePaddle: mostly the modules of Keras's, by other rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from .. import by_hand as hand
from . import images, sequences
from .counterpart import Counterpart
from .graphs import COUNTERPARTS as GRAPHS
from .graphs import same

ALIKE = ("gru", "embeddings", "prelu", "square_dense", "twins")
NORMS = {f"cv.{i}": f"conv/{i}" for i in range(4)} | {f"bn.{i}": f"norm/{i}" for i in range(4)} | {"end": "scores"}


def packed(name: str) -> hand.Rule:
    """Four dense layers of (in, out) into one attention."""

    def rule(arrays: hand.Arrays) -> hand.Leaves:
        parts = [hand.unit(arrays, f"{name}/{part}_proj") for part in "qkv"]
        out = hand.unit(arrays, f"{name}/out_proj")
        return {
            "in_proj_weight": np.concatenate([part["weight"].T for part in parts]),
            "in_proj_bias": np.concatenate([part["bias"] for part in parts]),
            "out_proj.weight": out["weight"].T,
            "out_proj.bias": out["bias"],
        }

    return rule


def blocks() -> dict[str, str | hand.Rule]:
    """Twelve blocks."""
    parts = {"ln_1": "norm1", "ln_2": "norm2", "mlp.0": "linear1", "mlp.2": "linear2"}
    pairs: dict[str, str | hand.Rule] = {}
    for index in range(12):
        pairs |= {f"{index}.{ours}": f"stack/layers/{index}/{theirs}" for ours, theirs in parts.items()}
        pairs[f"{index}.attn"] = packed(f"stack/layers/{index}/self_attn")
    return pairs


def resnet() -> dict[str, str]:
    """Parts of each block."""
    parts = {
        "reduce": "conv0", "r_bn": "bn0", "spatial": "conv1", "s_bn": "bn1", "restore": "conv2", "e_bn": "bn2",
        "skip.0": "short", "skip.1": "short_bn",
    }  # fmt: skip
    pairs = {"stem.0": "conv", "stem.1": "bn", "classify": "fc"}
    for index, block in enumerate(("stage1.0", "stage1.1", "stage2.0", "stage2.1")):
        for ours, theirs in parts.items():
            if block.endswith("0") or not ours.startswith("skip"):
                pairs[f"{block}.{ours}"] = f"res/{index}/{theirs}"
    return pairs


ENCODER = Counterpart(lambda: nn.Sequential(*(sequences.Block(8, 1e-5, before=True) for _ in range(12))), blocks())

COUNTERPARTS = {f"paddle/{name}": same(name) for name in ALIKE} | {
    "paddle/depthwise": same("depthwise", **{"layers.0": "once", "layers.1": "twice"}),
    "paddle/conv2d": same("conv2d", **{"mind.0": "hidden"}),
    "paddle/transposed": GRAPHS["onnx/transposed"],
    "paddle/batchnorm": replace(GRAPHS["onnx/batchnorm"], pairs=NORMS),
    "paddle/lstm": same("lstm", memory="stack"),
    "paddle/bidirectional": same("bidirectional", h="lstm", g="gru"),
    "paddle/twelve_blocks": ENCODER,
    "paddle/resnet": replace(images.COUNTERPARTS["resnet"], pairs=resnet(), moved=False),
}
