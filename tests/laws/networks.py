"""Random networks: blocks that keep the shape of what they get, composed by hypothesis.

Legend: B batch, T tokens, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import frostline as fl

D, T, SIDE = 4, 3, 5


class Residual(nn.Module):
    """`x + body(x)`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Branches(nn.Module):
    """Two ways from one value, and together again: gated, added or side by side."""

    def __init__(self, left: nn.Module, right: nn.Module, join: str) -> None:
        super().__init__()
        self.left, self.right, self.join = left, right, join

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.left(x), self.right(x)
        if self.join == "gate":
            return a * torch.sigmoid(b)
        if self.join == "cat":
            return torch.cat([a, b], 1).unflatten(1, (2, -1)).mean(1)
        return a.add_(b) if self.join == "in place" else a + b


class Twice(nn.Module):
    """One layer, used two times."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class Functional(nn.Module):
    """A layer, and the weights of another one read directly."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.first(x), self.second.weight.tanh(), self.second.bias)


class Attention(nn.Module):
    """Attention of the tokens (B, T, D) over themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(D), nn.MultiheadAttention(D, 2, dropout=0.2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        return x + self.attention(normed, normed, normed, need_weights=False)[0]


class Recurrent(nn.Module):
    """A GRU over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(D, D, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


class Position(nn.Module):
    """A learned offset per token, and a fixed one in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.randn(T, D))
        self.register_buffer("fixed", torch.randn(T, D))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset + self.fixed


class Folded(nn.Module):
    """Works on (B x T, D): sizes that follow the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.reshape(x.shape[0] * x.shape[1], D)).view(x.shape[0], x.shape[1], D)


class MeanOfTokens(nn.Module):
    """(B, T, D) -> (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


ANY = {
    "elu": nn.ELU,
    "leaky": lambda: nn.LeakyReLU(0.2),
    "gelu": nn.GELU,
    "dropout": lambda: nn.Dropout(0.4),
    "identity": nn.Identity,
}
VECTOR = {
    "linear": lambda: nn.Linear(D, D),
    "linear relu": lambda: nn.Sequential(nn.Linear(D, D), nn.ReLU(inplace=True)),
    "linear bn": lambda: nn.Sequential(nn.Linear(D, D, bias=False), nn.BatchNorm1d(D), nn.ELU()),
    "bn": lambda: nn.BatchNorm1d(D),
    "layer norm": lambda: nn.LayerNorm(D),
    "twice": lambda: Twice(nn.Linear(D, D)),
    "functional": Functional,
    "alpha dropout": lambda: nn.AlphaDropout(0.3),
}
IMAGE = {
    "conv": lambda: nn.Conv2d(D, D, 3, padding=1),
    "conv bn": lambda: nn.Sequential(nn.Conv2d(D, D, 1, bias=False), nn.BatchNorm2d(D), nn.ReLU(inplace=True)),
    "depthwise": lambda: nn.Conv2d(D, D, 3, padding=1, groups=D),
    "group norm": lambda: nn.GroupNorm(2, D),
    "dropout2d": lambda: nn.Dropout2d(0.4),
    "pool": lambda: nn.MaxPool2d(3, stride=1, padding=1),
}
TOKENS = {
    "linear": lambda: nn.Linear(D, D),
    "layer norm": lambda: nn.LayerNorm(D),
    "attention": Attention,
    "encoder": lambda: nn.TransformerEncoderLayer(D, 2, 2 * D, dropout=0.2, batch_first=True),
    "gru": Recurrent,
    "position": Position,
    "folded": Folded,
    "functional": Functional,
}
KINDS = {"vector": VECTOR, "image": IMAGE, "tokens": TOKENS}
SHAPES = {"vector": (D,), "image": (D, SIDE, SIDE), "tokens": (T, D)}
FIRST = {"vector": "linear", "image": "conv", "tokens": "linear"}


@dataclass(frozen=True)
class Plan:
    """What a random network is made of: a value that hypothesis can print and shrink."""

    kind: str
    blocks: tuple[Any, ...]
    seed: int
    depth: float
    is_channels_last: bool = field(default=False)

    def build(self) -> nn.Module:
        """The network; the same plan gives the same weights."""
        torch.manual_seed(self.seed)
        end = {"vector": [], "image": [nn.AdaptiveAvgPool2d(1), nn.Flatten()], "tokens": [MeanOfTokens()]}[self.kind]
        first = KINDS[self.kind][FIRST[self.kind]]()
        model = nn.Sequential(first, *(self._block(block) for block in self.blocks), *end, nn.Linear(D, 2))
        return model.to(memory_format=torch.channels_last) if self.is_channels_last else model

    def cut(self, model: nn.Module) -> str:
        """The layer to freeze through: all of the first one is frozen, and the last one trains.

        Not inside of torch's encoder layer: `test_splitting_laws` says why.
        """
        whole = [f"{name}." for name, part in model.named_modules() if isinstance(part, nn.TransformerEncoderLayer)]
        names = [name for name, _ in model.named_modules() if name and not name.startswith(tuple(whole))]
        names = names[: names.index(str(len(model) - 1))]
        return names[min(int(self.depth * len(names)), len(names) - 1)]

    def frozen(self) -> nn.Module:
        """The network, frozen through its cut."""
        model = self.build()
        fl.freeze(model, through=self.cut(model))
        return model

    def inputs(self, count: int, seed: int = 0) -> Tensor:
        """(B, ...) with B = `count`."""
        generator = torch.Generator().manual_seed(1000 * seed + count)
        x = torch.randn(count, *SHAPES[self.kind], generator=generator)
        return x.contiguous(memory_format=torch.channels_last) if self.is_channels_last else x

    def _block(self, block: Any) -> nn.Module:
        if isinstance(block, str):
            return (ANY | KINDS[self.kind])[block]()
        name, parts = block[0], [nn.Sequential(*map(self._block, part)) for part in block[1:]]
        return Residual(parts[0]) if name == "residual" else Branches(parts[0], parts[1], name)


@st.composite
def plans(draw: Any, kinds: tuple[str, ...] = tuple(KINDS), max_blocks: int = 4) -> Plan:
    """Random networks with a random cut, at a layer border or inside a block."""
    kind = draw(st.sampled_from(kinds))
    plain = st.sampled_from(sorted(ANY | KINDS[kind]))
    weighty = st.sampled_from(sorted(KINDS[kind]))
    part = st.lists(plain, max_size=2).flatmap(lambda rest: weighty.map(lambda first: (first, *rest)))
    joins = st.sampled_from(["gate", "cat", "sum"])
    nested = st.one_of(st.tuples(st.just("residual"), part), st.tuples(joins, part, part))
    blocks = draw(st.lists(st.one_of(plain, nested), min_size=1, max_size=max_blocks))
    # torch 2.13 on the CPU crashes in the backward pass of a GroupNorm over channels-last inputs without gradients
    has_group_norm = "group norm" in repr(blocks)
    return Plan(
        kind=kind, blocks=tuple(blocks), seed=draw(st.integers(0, 99)), depth=draw(st.floats(0, 0.99)),
        is_channels_last=kind == "image" and not has_group_norm and draw(st.booleans()),
    )  # fmt: skip
