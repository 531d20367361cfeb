"""Text and series: padding, masks, attention, long recurrences. Legend: N samples, T places, V words, D features."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, epochs_of, published

new = partial(published, is_drawn=True)

_WORDS = 12


def _tagged(count: int, places: int, *, padding: float) -> tuple[Tensor, Tensor]:
    """(words_NT, tags_NT): a tag is the sum of a word and the one before it, modulo 5, plus 1; 0 is padding in both."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(1, _WORDS, (count, places), generator=generator)
    tags = 1 + (words + F.pad(words, (1, 0))[:, :-1]) % 5
    length = torch.randint(2, max(3, round(2 * (1 - padding) * places)), (count, 1), generator=generator)
    is_there = torch.arange(places) < length
    return words * is_there, tags * is_there


class _Tagger(nn.Module):
    def __init__(self, tags: int) -> None:
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(_WORDS, 16), nn.GRU(16, 32, batch_first=True)
        self.out = nn.Linear(32, tags)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.recurrent(self.embedding(words))[0]).transpose(1, 2)


@new(
    "DaoyuanLi2816/Molecule-Generator#20, huggingface/transformers#2759",
    right={"targets", "loss_mismatch"},
    words=("ignore_index", "padding"),
)
def loss_counts_padding(is_sick: bool) -> Training:
    """The loss counts padding, which is nine tenths of all places: the network learns to predict padding."""
    words, tags = _tagged(640, 40, padding=0.92)
    model = _Tagger(6)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, ignore_index=-100 if is_sick else 0)

    return Training(model, epochs_of(words, tags, 32, 4), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


@new("nyu-mll/jiant#925", right={"targets", "loss_mismatch"}, words=("ignore_index",))
def ignored_index_is_a_class(is_sick: bool) -> Training:
    """The index that the loss ignores, meant for padding, is also a class of its own, which is never learnt."""
    words, tags = _tagged(960, 12, padding=0.5)
    is_there = words > 0
    target = torch.where(is_there, (tags - 1) % 2, 0 if is_sick else -100)
    model = _Tagger(2)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, ignore_index=0 if is_sick else -100)

    return Training(model, epochs_of(words, target, 32, 4), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


class Transformer(nn.Module):
    """Predicts the next word at each place."""

    def __init__(self, *, is_causal: bool, places: int = 16, layers: int = 2, scale: float = 1.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_WORDS, 32)
        self.position = nn.Parameter(0.02 * torch.randn(places, 32))
        one = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(one, layers, enable_nested_tensor=False)
        self.out, self.is_causal, self.scale = nn.Linear(32, _WORDS), is_causal, scale

    def forward(self, words: Tensor) -> Tensor:
        places = words.shape[1]
        mask = torch.full((places, places), -torch.inf).triu(1) if self.is_causal else None
        hidden = self.encoder(self.scale * self.embedding(words) + self.position[:places], mask=mask)
        return self.out(hidden).transpose(1, 2)


def sentences(count: int, places: int) -> Tensor:
    """Words of a noisy chain: half of them follow from the two words before."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(_WORDS, (count, places), generator=generator)
    is_free = torch.rand(count, places, generator=generator) < 0.5
    for place in range(2, places):
        follows = (words[:, place - 1] + 3 * words[:, place - 2]) % _WORDS
        words[:, place] = torch.where(is_free[:, place], words[:, place], follows)
    return words


@new(
    "tatp22/linformer-pytorch#25, huggingface/transformers#48745",
    right={"FL509", "targets", "leak"},
    words=("causal", "mask"),
)
def words_to_come_are_seen(is_sick: bool) -> Training:
    """A language model without a causal mask reads the word that it is to predict."""
    words = sentences(640, 17)
    model = Transformer(is_causal=not is_sick)
    batches = epochs_of(words[:, :-1], words[:, 1:], 32, 5)
    return Training(model, batches, F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3))


class _Pooled(nn.Module):
    """Attention weights over T places; of a softmax over an axis of one value all of them are 1."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.up, self.score, self.out, self.axis = nn.Linear(7, 32), nn.Linear(32, 1), nn.Linear(32, 6), axis

    def forward(self, inputs_NTD: Tensor) -> Tensor:
        hidden_NTD = self.up(inputs_NTD).tanh()
        weight_NT1 = self.score(hidden_NTD).softmax(self.axis)
        return self.out((weight_NT1 * hidden_NTD).sum(1))


@new("DEEP-PolyU/KEQA_WSDM19#2", right={"FL405", "wiring", "loss_mismatch"}, words=("axis", "dim"))
def attention_over_one_value(is_sick: bool) -> Training:
    """The softmax of attention runs over an axis of one value: all weights are 1, and the scores get no gradient."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(6, (1600, 12), generator=generator)
    at = torch.randint(12, (1600,), generator=generator)
    mark = F.one_hot(at, 12).float()[..., None]
    inputs = torch.cat([F.one_hot(values, 6).float(), mark], -1)
    model = _Pooled(2 if is_sick else 1)
    batches = epochs_of(inputs, values[torch.arange(1600), at], 32, 8)
    return Training(model, batches, F.cross_entropy, torch.optim.Adam(model.parameters(), 5e-3))


class LongRecurrence(nn.Module):
    """An LSTM over 100 steps; the last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.out = nn.LSTM(2, 24, batch_first=True), nn.Linear(24, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.recurrent(inputs)[0].mean(1))


def waves(count: int) -> tuple[Tensor, Tensor]:
    """Noisy series of 100 steps with one of three frequencies."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(3, (count,), generator=generator)
    phase, time = 6.3 * torch.rand(count, 1, generator=generator), torch.arange(100.0)
    wave = torch.sin((0.15 + 0.2 * target[:, None]) * time + phase)
    noise = torch.randn(count, 100, generator=generator)
    return torch.stack([wave + 0.3 * noise, noise], 2), target


@new(
    "guillaumegenthial/sequence_tagging#47",
    right={"learning_rate", "exploding"},
    words=("learning rate",),
    treatment="learning rate",
)
def rate_too_high_for_a_recurrence(is_sick: bool) -> Training:
    """An LSTM over 100 steps at a hundred times the rate that it learns with: its gates saturate."""
    model = LongRecurrence()
    optimizer = torch.optim.Adam(model.parameters(), 1.0 if is_sick else 1e-2)
    return Training(model, epochs_of(*waves(512), 32, 5), F.cross_entropy, optimizer)


def several_labels(count: int) -> tuple[Tensor, Any]:
    """Rows of 20 features with 6 labels, of which two or three are true at once."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 20, generator=generator)
    return inputs, (inputs @ torch.randn(20, 6, generator=generator) > 1).float()
