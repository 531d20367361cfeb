"""Counterparts of recurrent networks, attention, embeddings and transformers (B batch, T tokens, D width)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .. import by_hand as hand
from .counterpart import Counterpart


class Recurrent(nn.Module):
    """A recurrent layer and a dense one, on the last step or on all."""

    def __init__(self, body: nn.RNNBase, outs: int, *, is_last: bool = False) -> None:
        super().__init__()
        self.readout = nn.Linear(body.hidden_size, outs)
        self.memory = body
        self.is_last = is_last

    def forward(self, x_BTD: Tensor) -> Tensor:
        x = self.memory(x_BTD)[0]
        return self.readout(x[:, -1] if self.is_last else x)


class BothWays(nn.Module):
    """Recurrent layers in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.GRU(6, 3, batch_first=True, bidirectional=True)
        self.h = nn.LSTM(6, 3, batch_first=True, bidirectional=True)
        self.tail = nn.Linear(6, 6)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.tail(self.g(self.h(x_BTD)[0])[0])


class TwoAttentions(nn.Module):
    """Attention of a sequence to itself and to another, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.inter = nn.MultiheadAttention(8, 2, batch_first=True)
        self.intra = nn.MultiheadAttention(8, 2, batch_first=True)
        self.end = nn.Linear(8, 8)
        self.ln = nn.LayerNorm(8, eps=1e-6)

    def forward(self, a_BTD: Tensor, b_BTD: Tensor) -> Tensor:
        x = self.ln(a_BTD + self.intra(a_BTD, a_BTD, a_BTD)[0])
        return self.end(self.inter(x, b_BTD, b_BTD)[0])


class OwnAttention(nn.Module):
    """Attention written out, with four square Linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.o_proj, self.v_proj, self.k_proj, self.q_proj = (nn.Linear(8, 8) for _ in range(4))
        self.final = nn.Linear(8, 8)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = (
            part(x_BTD).unflatten(-1, (4, 2)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.final(self.o_proj(x))


class Embedded(nn.Module):
    """Two embeddings; one table is square."""

    def __init__(self) -> None:
        super().__init__()
        self.segments = nn.Embedding(8, 8)
        self.vocabulary = nn.Embedding(16, 8)
        self.ln = nn.LayerNorm(8, eps=1e-3)
        self.proj = nn.Linear(8, 8)

    def forward(self, words: Tensor, kinds: Tensor) -> Tensor:
        return self.proj(self.ln(self.vocabulary(words) + self.segments(kinds)).mean(1))


class Block(nn.Module):
    """One transformer block, norms first or last."""

    def __init__(self, hidden: int, eps: float, *, before: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(8, eps=eps), nn.LayerNorm(8, eps=eps)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, hidden), nn.GELU(), nn.Linear(hidden, 8))
        self.before = before

    def forward(self, x: Tensor) -> Tensor:
        if self.before:
            y = self.ln_1(x)
            x = x + self.attn(y, y, y)[0]
            return x + self.mlp(self.ln_2(x))
        x = self.ln_1(x + self.attn(x, x, x)[0])
        return self.ln_2(x + self.mlp(x))


class Vision(nn.Module):
    """A transformer on patches."""

    def __init__(self) -> None:
        super().__init__()
        self.to_tokens = nn.Conv2d(3, 8, 4, stride=4)
        self.where = nn.Embedding(16, 8)
        self.trunk = nn.Sequential(*(Block(16, 1e-6, before=True) for _ in range(3)))
        self.ln_post = nn.LayerNorm(8, eps=1e-6)
        self.fc = nn.Linear(8, 5)

    def forward(self, image: Tensor, positions: Tensor) -> Tensor:
        x = self.to_tokens(image).flatten(2).transpose(1, 2) + self.where(positions)
        return self.fc(self.ln_post(self.trunk(x)).mean(1))


class Words(nn.Module):
    """BERT with norms after the sums and a pooler."""

    def __init__(self) -> None:
        super().__init__()
        self.tok, self.seg, self.pos = nn.Embedding(32, 8), nn.Embedding(8, 8), nn.Embedding(8, 8)
        self.ln = nn.LayerNorm(8, eps=1e-12)
        self.blocks = nn.ModuleList([Block(8, 1e-12, before=False) for _ in range(3)])
        self.pool, self.cls = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, words: Tensor, kinds: Tensor, places: Tensor) -> Tensor:
        x = self.ln(self.tok(words) + self.seg(kinds) + self.pos(places))
        for block in self.blocks:
            x = block(x)
        return self.cls(self.pool(x[:, 0]).tanh())


def blocks(torch_name: str, source: str, count: int, join: str = "_") -> dict[str, str]:
    """The pairs of `count` blocks."""
    parts = {"ln_1": "norm1", "ln_2": "norm2", "attn": "attention", "mlp.0": "up", "mlp.2": "down"}
    return {
        f"{torch_name.format(index)}.{ours}": f"{source}_{index}{join}{theirs}"
        for index in range(count)
        for ours, theirs in parts.items()
    }


def head(part: str) -> hand.Rule:
    """Query, key, value or output of an attention as a Linear layer of its own."""

    def rule(arrays: hand.Arrays) -> hand.Leaves:
        source = hand.unit(arrays, "look")
        return {"weight": source[f"{part}/kernel"].reshape(8, 8).T, "bias": source[f"{part}/bias"].reshape(-1)}

    return rule


def lstm() -> nn.LSTM:
    """Two layers."""
    return nn.LSTM(6, 6, num_layers=2, batch_first=True)


def both(kind: type[nn.RNNBase], source: str, layer: str) -> hand.Rule:
    """Both directions of a layer."""
    names = (f"{source}/forward_{layer}", f"{source}/backward_{layer}")
    return hand.stacked(lambda: kind(6, 3, bidirectional=True), *names)


GRU_BEFORE = "nn.GRU has the reset gate after the product"

COUNTERPARTS = {
    "lstm": Counterpart(
        lambda: Recurrent(lstm(), 3, is_last=True),
        {"memory": hand.stacked(lstm, "lower", "upper"), "readout": "out"},
    ),
    "gru": Counterpart(
        lambda: Recurrent(nn.GRU(5, 6, batch_first=True), 3), {"memory": "recurrent", "readout": "out"}
    ),
    "gru_reset_before": Counterpart(
        lambda: Recurrent(nn.GRU(5, 6, batch_first=True), 3, is_last=True), {}, refused=GRU_BEFORE
    ),
    "bidirectional": Counterpart(
        BothWays, {"h": both(nn.LSTM, "both_lstm", "lstm"), "g": both(nn.GRU, "both_gru", "gru"), "tail": "out"}
    ),
    "simple_rnn": Counterpart(
        lambda: Recurrent(nn.RNN(5, 5, batch_first=True), 5, is_last=True), {"memory": "plain", "readout": "out"}
    ),
    "attention": Counterpart(TwoAttentions, {"intra": "self", "inter": "cross", "ln": "norm", "end": "out"}),
    "attention_linears": Counterpart(
        OwnAttention,
        {
            "q_proj": head("query"), "k_proj": head("key"), "v_proj": head("value"),
            "o_proj": head("attention_output"), "final": "out",
        },
    ),
    "embeddings": Counterpart(Embedded, {"vocabulary": "word", "segments": "kind", "ln": "norm", "proj": "out"}),
    "vit": Counterpart(
        Vision,
        {"to_tokens": "patches", "where": "positions", "ln_post": "encoder_norm", "fc": "head"}
        | blocks("trunk.{}", "encoder", 3),
        moved=True,
    ),
    "bert": Counterpart(
        Words,
        {
            "tok": "word_embeddings", "seg": "token_type_embeddings", "pos": "position_embeddings",
            "ln": "embeddings_norm", "pool": "pooler", "cls": "classifier",
        }
        | blocks("blocks.{}", "layer", 3),
    ),
    "twelve_blocks": Counterpart(
        lambda: nn.Sequential(*(Block(8, 1e-6, before=True) for _ in range(12))), blocks("{}", "layer", 12)
    ),
}  # fmt: skip
