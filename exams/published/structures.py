"""Networks that are built otherwise than was meant: drawn by a rule from a search (docs/exam.md).

Legend: N samples, T places, D values of a place, H heads.
"""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published

drawn = partial(published, part="drawn")


class _Averaged(nn.Module):
    """A network that answers in evaluation with a running average of its weights."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.online, self.decay = perceptron(64, 64, 10), decay
        self.average = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return self.average(inputs)
        with torch.no_grad():
            for kept, value in zip(self.average.parameters(), self.online.parameters(), strict=True):
                kept.lerp_(value, 1 - self.decay)
        return self.online(inputs)


@drawn(
    "lucidrains/DALLE2-pytorch#131, huggingface/pytorch-image-models#1831",
    right={"mode", "FL606"},
    words=("average", "decay"),
    line="decay = 0.99 (0.9999 needs ten thousand steps)",
)
def average_that_lags(is_sick: bool) -> Training:
    """Evaluation uses a running average of the weights, with a decay that needs more steps than there are."""
    model = _Averaged(0.9999 if is_sick else 0.95)
    optimizer = torch.optim.Adam(model.online.parameters(), 3e-3)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer)


class _Gathered(nn.Module):
    """Two rounds of messages over the edges of a graph of G nodes, then the largest of all nodes."""

    def __init__(self, *, is_mean: bool) -> None:
        super().__init__()
        self.first, self.is_mean = nn.Linear(4, 24), is_mean
        self.own, self.others = (nn.ModuleList(nn.Linear(24, 24) for _ in range(2)) for _ in range(2))
        self.out = nn.Linear(24, 2)

    def forward(self, graph_NGE: Tensor) -> Tensor:
        nodes, edges = graph_NGE[..., :4], graph_NGE[..., 4:]
        spread = edges / edges.sum(2, keepdim=True).clamp_min(1) if self.is_mean else edges / 4
        hidden = self.first(nodes).relu()
        for own, others in zip(self.own, self.others, strict=True):
            hidden = (own(hidden) + others(spread @ hidden)).relu()
        return self.out(hidden.amax(1))


@drawn(
    "pyg-team/pytorch_geometric#248",
    right={"wiring", "aggregation"},
    words=("sum", "mean", "aggregat"),
    line="super().__init__(aggr='add') (not 'mean')",
)
def messages_are_averaged(is_sick: bool) -> Training:
    """Messages of neighbours are averaged, where a sum was meant: how many there are is lost."""
    generator = torch.Generator().manual_seed(0)
    nodes = 1 + 0.3 * torch.randn(1600, 8, 4, generator=generator)
    share = torch.where(torch.arange(1600) % 2 == 0, 0.3, 0.6)[:, None, None]
    edges = (torch.rand(1600, 8, 8, generator=generator) < share).float()
    wanted = (edges.sum(2).amax(1) > 5).long()
    model = _Gathered(is_mean=is_sick)
    batches = epochs_of(torch.cat([nodes, edges], 2), wanted, 32, 8)
    return Training(model, batches, F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3))


class _Twice(nn.Module):
    def __init__(self, width: int, *, is_twice: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.is_twice = is_twice

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs + 0.3 * self.second(self.first(inputs).relu())
        return hidden + inputs if self.is_twice else hidden


@drawn(
    "yakhyo/darknet-pytorch#2",
    right={"exploding", "initialization", "wiring"},
    words=("shortcut", "skip", "residual", "twice"),
    line="return hidden (the block adds its shortcut already)",
)
def shortcut_added_twice(is_sick: bool) -> Training:
    """A residual block adds its input twice: what passes ten of them is a thousand times as large."""
    blocks = [_Twice(32, is_twice=is_sick) for _ in range(10)]
    model = nn.Sequential(nn.Linear(64, 32), *blocks, nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer)


class _Heads(nn.Module):
    """Attention of four heads, which are joined again: (N, H, T, D) to (N, T, H * D)."""

    def __init__(self, width: int, *, is_scrambled: bool) -> None:
        super().__init__()
        self.given, self.out, self.is_scrambled = nn.Linear(width, 3 * width), nn.Linear(width, width), is_scrambled

    def forward(self, hidden_NTD: Tensor) -> Tensor:
        count, places, width = hidden_NTD.shape
        parts = self.given(hidden_NTD).reshape(count, places, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        weight = (query @ key.transpose(2, 3) / (width // 4) ** 0.5).softmax(3)
        joined = weight @ value
        joined = joined if self.is_scrambled else joined.permute(0, 2, 1, 3)
        return hidden_NTD + self.out(joined.reshape(count, places, width))


class _Counter(nn.Module):
    """For each word, how often it stands in its row."""

    def __init__(self, *, is_scrambled: bool) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(6, 32), nn.Parameter(0.1 * torch.randn(10, 32))
        self.layers = nn.Sequential(*[_Heads(32, is_scrambled=is_scrambled) for _ in range(2)])
        self.body, self.out = perceptron(32, 64, 32), nn.Linear(32, 4)

    def forward(self, words_NT: Tensor) -> Tensor:
        hidden = self.layers(self.embedding(words_NT) + self.place)
        return self.out(hidden + self.body(hidden)).transpose(1, 2)


@drawn(
    "jsbaan/transformer-from-scratch#6",
    right={"FL511", "reshape"},
    words=("permute", "transpose", "movedim"),
    line="values = values.permute(0, 2, 1, 3).reshape(batch, places, width)",
)
def heads_joined_without_permute(is_sick: bool) -> Training:
    """Heads are joined by a reshape without a permute before it: values of other places fill a word's row."""
    words = torch.randint(6, (1600, 10), generator=torch.Generator().manual_seed(0))
    counts = (words[:, :, None] == words[:, None]).sum(2)
    model = _Counter(is_scrambled=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(words, (counts - 1).clamp_max(3), 32, 3), F.cross_entropy, optimizer)


class _Normed(nn.Module):
    """Sequences of 6 values over 12 places; the mean of all places is classified."""

    def __init__(self, *, is_over_places: bool) -> None:
        super().__init__()
        self.up, self.body, self.is_over_places = nn.Linear(6, 32), perceptron(32, 32, 6), is_over_places
        self.norm = nn.LayerNorm(12 if is_over_places else 32)

    def forward(self, inputs_NTD: Tensor) -> Tensor:
        hidden = self.up(inputs_NTD)
        hidden = self.norm(hidden.transpose(1, 2)).transpose(1, 2) if self.is_over_places else self.norm(hidden)
        return self.body(hidden.mean(1))


@drawn(
    "tensorflow/addons#2142, keras-team/keras#1740",
    right={"FL506", "FL511", "axis", "wiring"},
    words=("axis", "LayerNorm", "dim"),
    line="LayerNormalization(axis=-1) (over the values of a place, not over the places)",
)
def norm_over_the_places(is_sick: bool) -> Training:
    """A layer norm runs over the places of a sequence, and not over the values of each: their level is lost."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(6, (1600,), generator=generator)
    level = F.one_hot(classes, 6).float()[:, None]
    inputs = level + 0.8 * torch.randn(1600, 12, 6, generator=generator)
    model = _Normed(is_over_places=is_sick)
    batches = epochs_of(inputs, classes, 32, 5)
    return Training(model, batches, F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3))


class _Adapted(nn.Module):
    """A frozen linear layer, and a product of two narrow matrices beside it."""

    def __init__(self, layer: nn.Linear, *, starts_twice_at_zero: bool) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down, self.up = nn.Linear(layer.in_features, 8, bias=False), nn.Linear(8, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)
        if starts_twice_at_zero:
            nn.init.zeros_(self.down.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) + self.up(self.down(inputs))


@drawn(
    "nvidia-cosmos/cosmos-predict2.5#15",
    right={"symmetry", "initialization", "FL405", "FL406", "FL301"},
    words=("initialis", "initializ", "draw"),
    line="model.init_weights(); add_lora(model) (in this order)",
)
def adapter_of_two_zeros(is_sick: bool) -> Training:
    """Both matrices of an adapter start at 0, since the weights were drawn after it was added: it never moves."""
    inputs, target = digits()
    base = perceptron(64, 48, 10)
    optimizer = torch.optim.Adam(base.parameters(), 3e-3)
    for rows, wanted in epochs_of(inputs, (target + 1) % 10, 32, 2):
        optimizer.zero_grad()
        F.cross_entropy(base(rows), wanted).backward()
        optimizer.step()
    parts = [_Adapted(one, starts_twice_at_zero=is_sick) if isinstance(one, nn.Linear) else one for one in base]
    model = nn.Sequential(*parts)
    own = [value for value in model.parameters() if value.requires_grad]
    return Training(model, epochs_of(inputs, target, 32, 4), F.cross_entropy, torch.optim.Adam(own, 3e-3))
