"""Counterparts of the networks that PyTorch exports: the modules of Keras's, whose names are others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import by_hand as hand
from . import convolutions, images, sequences


def bottlenecks() -> dict[str, str]:
    """Parts of the ResNet."""
    parts = {
        "reduce": "conv1", "r_bn": "bn1", "spatial": "conv2", "s_bn": "bn2", "restore": "conv3", "e_bn": "bn3",
        "skip.0": "downsample/0", "skip.1": "downsample/1",
    }  # fmt: skip
    pairs = {"stem.0": "conv1", "stem.1": "bn1", "classify": "fc"}
    for stage, block in ((1, 0), (1, 1), (2, 0), (2, 1)):
        for ours, theirs in parts.items():
            if block == 0 or not ours.startswith("skip"):
                pairs[f"stage{stage}.{block}.{ours}"] = f"layer{stage}/{block}/{theirs}"
    return pairs


def residuals() -> dict[str, str]:
    """Parts of the MobileNet."""
    pairs = {"first": "features/0/0", "first_bn": "features/0/1", "out": "classifier"}
    for block in range(5):
        for index in range(3):
            pairs[f"body.{block}.convs.{index}"] = f"features/{block + 1}/conv/{index}/0"
            pairs[f"body.{block}.bns.{index}"] = f"features/{block + 1}/conv/{index}/1"
    return pairs


def excited() -> dict[str, str]:
    """Parts of the EfficientNet."""
    parts = {
        "pw_in": "conv_pw", "n1": "bn1", "dw": "conv_dw", "n2": "bn2", "se.1": "conv_reduce", "se.3": "conv_expand",
        "pw_out": "conv_pwl", "n3": "bn3",
    }  # fmt: skip
    pairs = {"entry.conv": "conv_stem", "entry.bn": "bn1", "out": "classifier"}
    return pairs | {f"stages.{i}.{ours}": f"blocks/{i}/{theirs}" for i in range(3) for ours, theirs in parts.items()}


def packed(name: str) -> hand.Rule:
    """Three Linear layers into one matrix."""

    def rule(arrays: hand.Arrays) -> hand.Leaves:
        parts = [hand.unit(arrays, f"{name}/{part}") for part in ("query", "key", "value")]
        out = hand.unit(arrays, f"{name}/dense")
        return {
            "in_proj_weight": np.concatenate([part["weight"] for part in parts]),
            "in_proj_bias": np.concatenate([part["bias"] for part in parts]),
            "out_proj.weight": out["weight"],
            "out_proj.bias": out["bias"],
        }

    return rule


def layers() -> dict[str, str | hand.Rule]:
    """Parts of BERT."""
    parts = {"ln_1": "attention_norm", "ln_2": "output_norm", "mlp.0": "intermediate", "mlp.2": "output"}
    pairs: dict[str, str | hand.Rule] = {
        "tok": "word_embeddings", "seg": "token_type_embeddings", "pos": "position_embeddings", "ln": "norm",
        "pool": "pooler", "cls": "classifier",
    }  # fmt: skip
    for index in range(3):
        pairs |= {f"blocks.{index}.{ours}": f"layer/{index}/{theirs}" for ours, theirs in parts.items()}
        pairs[f"blocks.{index}.attn"] = packed(f"layer/{index}")
    return pairs


def twins() -> dict[str, str]:
    """Parts of the twins."""
    pairs = {}
    for index, (ours, theirs) in enumerate((("plus", "first"), ("minus", "second"))):
        pairs |= {f"{ours}.0": f"{theirs}/0", f"{ours}.2": f"{theirs}/1", f"{ours}.6": f"heads/{index}"}
    return pairs


COUNTERPARTS = {
    "torch/resnet": replace(images.COUNTERPARTS["resnet"], pairs=bottlenecks(), moved=False),
    "torch/mobilenet": replace(images.COUNTERPARTS["mobilenet"], pairs=residuals(), moved=False),
    "torch/efficientnet": replace(images.COUNTERPARTS["efficientnet"], pairs=excited(), moved=False),
    "torch/bidirectional": replace(
        sequences.COUNTERPARTS["bidirectional"], pairs={"h": "encoder", "g": "decoder", "tail": "linear"}
    ),
    "torch/bert": replace(sequences.COUNTERPARTS["bert"], pairs=layers()),
    "torch/twins": replace(convolutions.COUNTERPARTS["twins"], pairs=twins(), moved=False),
}
