"""Counterparts of the networks that TensorFlow saves without Keras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import by_hand as hand
from . import sequences
from .counterpart import Counterpart, pad_same


class Slim(nn.Module):
    """Convolutions in one list, norms in another."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Linear(8, 5)
        self.scale = nn.ModuleList([nn.BatchNorm2d(8, eps=1e-3), nn.BatchNorm2d(8, eps=1e-3)])
        self.filter = nn.ModuleList(
            [nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False)]
        )
        self.mix = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale[0](self.filter[0](pad_same(x, 3, 2))).relu()
        x = self.scale[1](self.filter[1](x)).relu()
        return self.answer(self.mix(x).mean((2, 3)))


class Music(nn.Module):
    """A norm of the input, then five steps; maps are flattened with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.ModuleList([
            nn.Sequential(nn.Conv2d(1 if i == 0 else 6, 6, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(6, eps=1e-3))
            for i in range(5)
        ])  # fmt: skip
        self.input = nn.BatchNorm2d(1, eps=1e-3)
        self.tags = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input(x)
        for index, step in enumerate(self.step):
            x = step(x)
            x = F.max_pool2d(x, 2) if index < 3 else x
        return self.tags(x.permute(0, 2, 3, 1).flatten(1))


class Bert(nn.Module):
    """Twelve layers; positions are a parameter of one row for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(6, 8))
        self.segment, self.token = nn.Embedding(8, 8), nn.Embedding(32, 8)
        self.blocks = nn.ModuleList([sequences.Block(8, 1e-12, before=False) for _ in range(12)])
        self.ln, self.first, self.out = nn.LayerNorm(8, eps=1e-12), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, words: Tensor, kinds: Tensor) -> Tensor:
        x = self.ln(self.token(words) + self.segment(kinds) + self.place)
        for block in self.blocks:
            x = block(x)
        return self.out(self.first(x[:, 0]).tanh())


class Tower(nn.Module):
    """Convolutions with stride, then dense layers on maps flattened with channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.d2, self.d1 = nn.Linear(8, 8), nn.Linear(64, 8)
        self.c2, self.c1 = nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c2(pad_same(self.c1(x).relu(), 3, 2)).relu()
        return self.d2(self.d1(x.flatten(1)).tanh())


def table(name: str) -> hand.Rule:
    """An embedding of the whole network."""
    return hand.leaf("weight", f"bert/embeddings/{name}")


def packed(index: int) -> hand.Rule:
    """Query, key, value and output of one layer."""

    def rule(arrays: hand.Arrays) -> hand.Leaves:
        name = f"bert/encoder/layer_{index}/attention"
        parts = [hand.unit(arrays, f"{name}/self/{part}") for part in ("query", "key", "value")]
        out = hand.unit(arrays, f"{name}/output/dense")
        return {
            "in_proj_weight": np.concatenate([part["kernel"].T for part in parts]),
            "in_proj_bias": np.concatenate([part["bias"] for part in parts]),
            "out_proj.weight": out["kernel"].T,
            "out_proj.bias": out["bias"],
        }

    return rule


def bert() -> dict[str, str | hand.Rule]:
    """Names of the source."""
    parts = {
        "ln_1": "attention/output/LayerNorm", "ln_2": "output/LayerNorm", "mlp.0": "intermediate/dense",
        "mlp.2": "output/dense",
    }  # fmt: skip
    pairs: dict[str, str | hand.Rule] = {
        "": hand.leaf("place", "bert/embeddings/position_embeddings"), "token": table("word_embeddings"),
        "segment": table("token_type_embeddings"), "ln": "bert/embeddings/LayerNorm", "first": "bert/pooler/dense",
        "out": "classifier",
    }  # fmt: skip
    for index in range(12):
        pairs |= {f"blocks.{index}.{ours}": f"bert/encoder/layer_{index}/{theirs}" for ours, theirs in parts.items()}
        pairs[f"blocks.{index}.attn"] = packed(index)
    return pairs


def lstm_cell(arrays: hand.Arrays) -> hand.Leaves:
    """Rows of input and state in one kernel; gates i, j, f, o; one is added to the bias of f at run time."""
    source = hand.unit(arrays, "rnn/basic_lstm_cell")
    order = (0, 2, 1, 3)
    kernel = np.concatenate([np.split(source["kernel"], 4, axis=1)[gate] for gate in order], axis=1)
    bias = np.concatenate([np.split(source["bias"], 4)[gate] + (gate == 2) for gate in order])
    return {
        "weight_ih_l0": kernel[:6].T,
        "weight_hh_l0": kernel[6:].T,
        "bias_ih_l0": bias,
        "bias_hh_l0": np.zeros_like(bias),
    }


SLIM = {
    "filter.0": hand.leaf("weight", "tower/conv1/weights", hand.convolution), "scale.0": "tower/conv1/BatchNorm",
    "filter.1": hand.leaf("weight", "tower/conv2/weights", hand.convolution), "scale.1": "tower/conv2/BatchNorm",
    "mix": "tower/conv3", "answer": "tower/logits",
}  # fmt: skip
MUSIC = {"input": "batch_normalization", "tags": "dense"}
MUSIC |= {f"step.{i}.0": f"{i + 1}CNN" for i in range(5)} | {
    f"step.{i}.2": f"batch_normalization_{i + 1}" for i in range(5)
}


def first_dense(arrays: hand.Arrays) -> hand.Leaves:
    """After maps of four by four with four channels."""
    words = {"mind/0/kernel": arrays["mind/0/w"], "mind/0/bias": arrays["mind/0/b"]}
    return hand.flattened("mind/0", 4, 4, 4)(words)


COUNTERPARTS = {
    "tf1_slim": Counterpart(Slim, SLIM, moved=True),
    "tf1_musicnn": Counterpart(Music, MUSIC, moved=True),
    "tf1_bert": Counterpart(Bert, bert()),
    "tf1_lstm": Counterpart(
        lambda: sequences.Recurrent(nn.LSTM(6, 6, batch_first=True), 3, is_last=True),
        {"memory": lstm_cell, "readout": "out"},
    ),
    "tf1_gru": replace(sequences.COUNTERPARTS["gru_reset_before"], pairs={}),
    "tf_module": Counterpart(Tower, {"c1": "eyes/0", "c2": "eyes/1", "d1": first_dense, "d2": "mind/1"}, moved=True),
}
