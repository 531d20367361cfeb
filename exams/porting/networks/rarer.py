"""Counterparts of what is rarer: masks, own classes, shared and packed weights, and other libraries of JAX."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .. import by_hand as hand
from . import sequences, small
from .counterpart import Counterpart


class MaskedWords(nn.Module):
    """An LSTM that ends where words end."""

    def __init__(self) -> None:
        super().__init__()
        self.say, self.rnn, self.table = nn.Linear(5, 4), nn.LSTM(6, 5, batch_first=True), nn.Embedding(8, 6)

    def forward(self, words: Tensor) -> Tensor:
        ends = (words != 0).sum(1).cpu()
        steps = pack_padded_sequence(self.table(words), ends, batch_first=True, enforce_sorted=False)
        return self.say(self.rnn(steps)[1][0][-1])


class MaskedSteps(nn.Module):
    """A GRU, and the mean of the steps that are not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.say, self.rnn = nn.Linear(6, 4), nn.GRU(5, 6, batch_first=True)

    def forward(self, x_BTD: Tensor) -> Tensor:
        ends = (x_BTD != 0).any(2).sum(1)
        steps = pack_padded_sequence(x_BTD, ends.cpu(), batch_first=True, enforce_sorted=False)
        found = pad_packed_sequence(self.rnn(steps)[0], batch_first=True)[0]
        return self.say(found.sum(1) / ends[:, None])


class FirstChannels(nn.Module):
    """Convolutions, a norm, and a flattening of channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Linear(32, 5)
        self.bn = nn.BatchNorm2d(8, eps=1e-3)
        self.low, self.high = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(F.max_pool2d(self.low(x).relu(), 2))
        return self.judge(self.high(x).relu().flatten(1))


class Past(nn.Module):
    """Convolution, norm, and the way past both."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.cv = nn.BatchNorm2d(8, eps=1e-3), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn(self.cv(x)).relu()


class Steps(nn.Module):
    """Three of them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Past(), Past(), Past())
        self.last, self.first = nn.Linear(8, 5), nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.first(x)).mean((2, 3)))


class Scores(nn.Module):
    """A score for each word by the table of words."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.shift = nn.Linear(8, 16, bias=False), nn.Parameter(torch.zeros(16))
        self.position, self.vocabulary = nn.Embedding(6, 8), nn.Embedding(16, 8)
        self.score.weight = self.vocabulary.weight
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.dense, self.ln = nn.Linear(8, 8), nn.LayerNorm(8, eps=1e-6)

    def forward(self, words: Tensor) -> Tensor:
        x = self.vocabulary(words) + self.position.weight
        x = self.dense(self.ln(x + self.attn(x, x, x)[0])).tanh()
        return self.score(x) + self.shift


class Attended(nn.Module):
    """A block with one Linear layer for all of query, key and value, or with three."""

    def __init__(self, *, is_packed: bool) -> None:
        super().__init__()
        if is_packed:
            self.c_attn = nn.Linear(8, 24)
        else:
            self.v_proj, self.q_proj, self.k_proj = (nn.Linear(8, 8) for _ in range(3))
        self.o_proj = nn.Linear(8, 8)
        self.ln_1, self.ln_2 = nn.LayerNorm(8, eps=1e-6), nn.LayerNorm(8, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.is_packed = is_packed

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        parts = self.c_attn(y).chunk(3, -1) if self.is_packed else (self.q_proj(y), self.k_proj(y), self.v_proj(y))
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in parts)
        x = x + self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.ln_2(x))


class Language(nn.Module):
    """A masked language model; `is_tied`: whether the table of words is the matrix of its outputs."""

    def __init__(self, *, is_tied: bool) -> None:
        super().__init__()
        self.lm_head = nn.Linear(8, 32)
        self.wpe, self.wte = nn.Embedding(6, 8), nn.Embedding(32, 8)
        self.h = nn.ModuleList([Attended(is_packed=False)])
        self.ln_f, self.dense = nn.LayerNorm(8, eps=1e-12), nn.Linear(8, 8)
        if is_tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, words: Tensor, places: Tensor) -> Tensor:
        x = self.wte(words) + self.wpe(places)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(F.gelu(self.dense(x))))


class Attending(nn.Module):
    """Two blocks and a head."""

    def __init__(self, *, is_packed: bool) -> None:
        super().__init__()
        self.out, self.ln = nn.Linear(8, 5), nn.LayerNorm(8, eps=1e-6)
        self.layers = nn.ModuleList([Attended(is_packed=is_packed) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.out(self.ln(x).mean(1))


class Cardinal(nn.Module):
    """A ResNeXt block."""

    def __init__(self) -> None:
        super().__init__()
        self.tail = nn.Linear(4, 5)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.BatchNorm2d(4)])
        self.convs = nn.ModuleList([
            nn.Conv2d(4, 8, 1, bias=False), nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False),
            nn.Conv2d(8, 4, 1, bias=False),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            y = y.relu() if index < 2 else (x + y).relu()
        return self.tail(y.mean((2, 3)))


class Eye(nn.Module):
    """Two convolutions, of which the second may be grouped, a norm between them, and dense layers."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.mind = nn.Sequential(nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 8))
        self.bn = nn.BatchNorm2d(8, eps=1e-3)
        self.far, self.near = nn.Conv2d(8, 8, 3, stride=2, groups=groups), nn.Conv2d(3, 8, 3)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        x = self.near(x)
        x = self.bn(x).relu() if self.groups > 1 else self.bn(x.relu()).relu()
        return self.mind(self.far(x).relu().flatten(1))


class Reader(nn.Module):
    """An embedding, three blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.table = nn.Linear(8, 5), nn.Embedding(16, 8)
        self.depth = nn.ModuleList([sequences.Block(16, 1e-6, before=True) for _ in range(3)])

    def forward(self, words: Tensor) -> Tensor:
        x = self.table(words)
        for block in self.depth:
            x = block(x)
        return self.out(x.mean(1))


def nnx_blocks() -> dict[str, str]:
    """Blocks in a list."""
    parts = {"ln_1": "norm1", "ln_2": "norm2", "attn": "attention", "mlp.0": "up", "mlp.2": "down"}
    return {f"depth.{i}.{ours}": f"blocks/{i}/{theirs}" for i in range(3) for ours, theirs in parts.items()}


def language(parts: str) -> dict[str, str]:
    """Names of a language model whose block is called `parts`."""
    block = {
        "ln_1": "norm1", "ln_2": "norm2", "mlp.0": "fc1", "mlp.2": "fc2", "o_proj": "proj", "q_proj": "query",
        "k_proj": "key", "v_proj": "value",
    }  # fmt: skip
    pairs = {
        "wte": "word_embeddings", "wpe": "position_embeddings", "dense": "transform", "ln_f": "norm",
        "lm_head": "decoder",
    }  # fmt: skip
    return pairs | {f"h.0.{ours}": f"{parts}/{theirs}" for ours, theirs in block.items()}


def attending(*, is_packed: bool) -> dict[str, str | hand.Rule]:
    """Query, key and value taken apart, or put together."""
    parts = {"ln_1": "norm1", "ln_2": "norm2", "mlp.0": "fc1", "mlp.2": "fc2", "o_proj": "proj"}
    pairs: dict[str, str | hand.Rule] = {"out": "head", "ln": "norm"}

    def joined(name: str) -> hand.Rule:
        return lambda arrays: {
            leaf: np.concatenate([arrays[f"{name}/{part}/{leaf}"] for part in ("query", "key", "value")])
            for leaf in ("weight", "bias")
        }

    def part(name: str, index: int) -> hand.Rule:
        return lambda arrays: {leaf: np.split(arrays[f"{name}/qkv/{leaf}"], 3)[index] for leaf in ("weight", "bias")}

    for index in range(2):
        name = f"blocks/{index}"
        pairs |= {f"layers.{index}.{ours}": f"{name}/{theirs}" for ours, theirs in parts.items()}
        if is_packed:
            pairs[f"layers.{index}.c_attn"] = joined(name)
        else:
            pairs |= {f"layers.{index}.{own}_proj": part(name, at) for at, own in enumerate("qkv")}
    return pairs


def haiku_norm(arrays: hand.Arrays) -> hand.Leaves:
    """Axes of images in every vector; running statistics are averages in a state of their own."""
    names = {
        "weight": "scale", "bias": "offset", "running_mean": "~/mean_ema/average", "running_var": "~/var_ema/average",
    }  # fmt: skip
    return {ours: arrays[f"batch_norm/{theirs}"].reshape(-1) for ours, theirs in names.items()}


def haiku(name: str) -> hand.Rule:
    """A kernel `w` and a bias `b`."""

    def rule(arrays: hand.Arrays) -> hand.Leaves:
        kernel = arrays[f"{name}/w"]
        return {"weight": kernel.T if kernel.ndim == 2 else hand.convolution(kernel), "bias": arrays[f"{name}/b"]}

    return rule


def haiku_flat(arrays: hand.Arrays) -> hand.Leaves:
    """The dense layer after maps of four by four with eight channels."""
    words = {"first/kernel": arrays["mlp/~/linear_0/w"], "first/bias": arrays["mlp/~/linear_0/b"]}
    return hand.flattened("first", 4, 4, 8)(words)


def equinox_conv(name: str) -> hand.Rule:
    """The bias of a convolution has axes for the map."""
    return lambda arrays: {"weight": arrays[f"{name}/weight"], "bias": arrays[f"{name}/bias"].reshape(-1)}


def equinox_eye() -> nn.Sequential:
    """Convolutions with a group norm between them."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(128, 8),
    )  # fmt: skip


FIRST = {"low": "edges", "bn": "norm", "high": "shapes"}
STEPS = {"first": "stem", "last": "head"} | {f"body.{i}.{part}": f"step_{i}" for i in range(3) for part in ("cv", "bn")}
CARDINAL = {f"convs.{i}": f"conv{i + 1}" for i in range(3)} | {f"norms.{i}": f"bn{i + 1}" for i in range(3)}
TIED = {
    "": hand.leaf("shift", "network/shift"), "vocabulary": "network/words", "position": "network/places",
    "attn": "network/look",
    "ln": "network/norm", "dense": "network/mix",
}  # fmt: skip
HAIKU = {"near": haiku("conv2_d"), "bn": haiku_norm, "far": haiku("conv2_d_1"), "mind.0": haiku_flat}

COUNTERPARTS = {
    "masked": Counterpart(MaskedWords, {"table": "words", "rnn": "memory", "say": "out"}),
    "masking": Counterpart(MaskedSteps, {"rnn": "memory", "say": "out"}),
    "channels_first": Counterpart(FirstChannels, {**FIRST, "judge": hand.flattened("scores", 2, 2, 8)}),
    "channels_first_as_they_are": Counterpart(
        FirstChannels, {**FIRST, "judge": "scores"}, untold=("model.weights.h5", "renamed.weights.h5")
    ),
    "subclassed": Counterpart(Steps, STEPS, moved=True),
    "keras/tied": Counterpart(Scores, TIED),
    "torch/tied": Counterpart(lambda: Language(is_tied=True), language("layer/0")),
    "torch/tied_apart": Counterpart(lambda: Language(is_tied=False), language("layer/0")),
    "torch/untied": Counterpart(lambda: Language(is_tied=True), {}, refused="two matrices do not fit into one"),
    "torch/packed": Counterpart(lambda: Attending(is_packed=False), attending(is_packed=False)),
    "torch/separate": Counterpart(lambda: Attending(is_packed=True), attending(is_packed=True)),
    "torch/grouped": Counterpart(Cardinal, {**CARDINAL, "tail": "fc"}),
    "nnx/eye": Counterpart(
        lambda: Eye(2),
        {
            "near": "conv1", "bn": "norm", "far": "conv2", "mind.0": hand.flattened("hidden", 4, 4, 8),
            "mind.2": "scores",
        },
        moved=True,
    ),
    "nnx/reader": Counterpart(Reader, {"table": "words", "out": "head", **nnx_blocks()}),
    "haiku/eye": Counterpart(lambda: Eye(1), {**HAIKU, "mind.2": haiku("mlp/~/linear_1")}, moved=True),
    "haiku/squares": Counterpart(
        small.Squares, {str(2 * i): haiku(f"linear_{i}" if i else "linear") for i in range(4)}
    ),
    "equinox/eye": Counterpart(
        equinox_eye, {"0": equinox_conv("layers/0"), "2": "layers/2", "3": equinox_conv("layers/3"), "6": "layers/6"}
    ),
    "equinox/squares": Counterpart(small.Squares, {str(2 * i): f"layers/{2 * i}" for i in range(4)}),
}  # fmt: skip
