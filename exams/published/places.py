"""Steps, words and places of a row that are mixed up or left out: of the third draw (docs/exam.md)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, epochs_of, published
from .examples import explained

third = partial(published, part="third draw")


class _Recurrence(nn.Module):
    """What a recurrence makes of each word and those before it. (N, T)."""

    def __init__(self, words: int, *, is_reversed: bool = False, keeps: bool = True) -> None:
        super().__init__()
        self.embedding, self.cell, self.out = nn.Embedding(words, 16), nn.GRUCell(16, 32), nn.Linear(32, words)
        self.is_reversed, self.keeps = is_reversed, keeps

    def forward(self, words_NT: Tensor) -> Tensor:
        hidden, outputs = torch.zeros(len(words_NT), 32), []
        for word_ND in self.embedding(words_NT).unbind(1):
            after = self.cell(word_ND, hidden)
            outputs = [after, *outputs] if self.is_reversed else [*outputs, after]
            hidden = after if self.keeps else hidden
        return self.out(torch.stack(outputs, 1)).transpose(1, 2)


@third(
    "zhiyongc/GRU-D#5",
    right={"targets", "order", "FL404"},
    words=("order", "reverse", "belong"),
    line="outputs = torch.cat([outputs, hidden], 1) (and not [hidden, outputs])",
    counts="That outputs and targets are of different steps: they do not belong together, or their order is wrong.",
)
def outputs_in_reverse(is_sick: bool) -> Training:
    """The outputs of a recurrence are put in front of those before: each step is compared with another one's target."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(6, (1280, 12), generator=generator)
    target = (words + words.roll(1, 1) * (torch.arange(12) > 0)) % 6
    model = _Recurrence(6, is_reversed=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(words, target, 32, 5), F.cross_entropy, optimizer)


@third(
    "hungpthanh/GRU4REC-pytorch#1",
    right={"FL405", "FL513", "wiring", "state"},
    words=("hidden", "state", "recurren", "weight_hh"),
    line="hidden = self.cell(word, hidden) (and not hdden)",
    counts="That the state is not carried on from step to step: words before the last one have no effect, or the "
    "recurrent weights get no gradient.",
)
def state_under_another_name(is_sick: bool) -> Training:
    """The new state of a recurrence gets another name by a slip: each step starts with a state of zeros."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(6, (1280, 13), generator=generator)
    for place in range(2, 13):
        words[:, place] = (words[:, place - 1] + 2 * words[:, place - 2] + 1) % 6
    model = _Recurrence(6, keeps=not is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(words[:, :-1], words[:, 1:], 32, 5), F.cross_entropy, optimizer)


class _Packed(nn.Module):
    """A class for each word of several texts of four words in a row, by attention within each text. (N, 12)."""

    def __init__(self, *, sees_all: bool) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(9, 32), nn.Parameter(0.5 * torch.randn(4, 32))
        one = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder, self.out = nn.TransformerEncoder(one, 2, enable_nested_tensor=False), nn.Linear(32, 4)
        self.sees_all = sees_all

    def forward(self, words_NT: Tensor) -> Tensor:
        text_T = torch.arange(12) // 4
        mask = None if self.sees_all else text_T[:, None] != text_T
        hidden = self.embedding(words_NT) + self.place.repeat(3, 1)
        return self.out(self.encoder(hidden, mask=mask)).transpose(1, 2)


@third(
    "mistralai/mistral-inference#218",
    right={"mask", "wiring"},
    words=("mask",),
    line="self.attention(hidden, mask=mask) (the mask was not passed on)",
    counts="That the mask has no effect, or that each word attends to words of other texts or images.",
)
def mask_is_not_passed_on(is_sick: bool) -> Training:
    """Several texts stand in a row, and the mask that keeps them apart is not passed on: all attend to all."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(4, 9, (1280, 3, 4), generator=generator)
    told = torch.randint(4, (1280, 3), generator=generator)
    at = torch.randint(4, (1280, 3, 1), generator=generator)
    words.scatter_(2, at, told[..., None])
    model = _Packed(sees_all=is_sick)
    target = told.repeat_interleave(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(words.flatten(1), target, 32, 4), F.cross_entropy, optimizer)


class _Late(nn.Module):
    """One layer of attention, from the first place, over words of which most are blanks (0). (N, T)."""

    def __init__(self, *, is_late: bool) -> None:
        super().__init__()
        self.embedding, self.query = nn.Embedding(8, 32), nn.Parameter(torch.randn(32) / 32**0.5)
        self.given, self.out, self.is_late = nn.Linear(32, 64), nn.Linear(32, 1), is_late

    def forward(self, words_NT: Tensor) -> Tensor:
        key, value = self.given(self.embedding(words_NT)).chunk(2, 2)
        score, is_blank = key @ self.query, words_NT == 0
        if self.is_late:
            weight = score.softmax(1).masked_fill(is_blank, -torch.inf)
        else:
            weight = score.masked_fill(is_blank, -torch.inf).softmax(1)
        return self.out((weight[..., None] * value).sum(1))


def _rated(count: int) -> tuple[Tensor, Tensor]:
    """(words_NT, mean_N1): 2 to 30 words and blanks after them; each word has a value, of which the mean is asked."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(1, 8, (count, 30), generator=generator)
    length = (2 * 15.0 ** torch.rand(count, 1, generator=generator)).long()
    is_there = torch.arange(30) < length
    value = torch.tensor([0.0, -2.0, -1.5, -1.0, 0.0, 1.0, 1.5, 2.0])
    # in each text some words are more common than others
    likes = torch.randint(1, 8, (count, 1), generator=generator)
    words = torch.where(torch.rand(count, 30, generator=generator) < 0.6, likes, words) * is_there
    return words, (value[words] * is_there).sum(1, keepdim=True) / length


@third(
    "huggingface/pytorch-image-models#2236",
    right={"FL502", "nonfinite", "mask"},
    words=("mask", "softmax", "infinit", "-inf"),
    line="weight = score.masked_fill(is_blank, -inf).softmax(1) (before the softmax, and not after it)",
    counts="That outputs or the loss are not finite: the mask, or this layer, is to blame.",
)
def mask_after_the_softmax(is_sick: bool) -> Training:
    """The mask of an attention is applied after its softmax: the weight of a blank is minus infinity, and not 0."""
    model = _Late(is_late=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(*_rated(1600), 32, 8), F.mse_loss, optimizer, measure=explained)


class _Mean(nn.Module):
    """The mean of the words' embeddings, before a linear layer. (N, T)."""

    def __init__(self, *, counts_blanks: bool) -> None:
        super().__init__()
        self.embedding, self.out, self.counts_blanks = nn.Embedding(8, 16), nn.Linear(16, 1), counts_blanks

    def forward(self, words_NT: Tensor) -> Tensor:
        hidden, is_there = self.embedding(words_NT), (words_NT > 0)[..., None]
        if self.counts_blanks:
            return self.out(hidden.mean(1))
        return self.out((hidden * is_there).sum(1) / is_there.sum(1))


@third(
    "dmlc/gluon-nlp#480",
    right={"FL509", "mask"},
    words=("padding", "blank", "mask"),
    line="(hidden * mask).sum(1) / mask.sum(1) (and not hidden.mean(1))",
    counts="That padding counts in the outputs: it is averaged with the words.",
)
def blanks_are_averaged(is_sick: bool) -> Training:
    """The mean of a text's words is taken over its blanks as well, of which there are up to ten times as many."""
    model = _Mean(counts_blanks=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(*_rated(1600), 32, 6), F.mse_loss, optimizer, measure=explained)


class _Placed(nn.Module):
    """A word for each place, by attention over words and places. (N, T)."""

    def __init__(self, *, multiplies: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 32)
        one = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder, self.out = nn.TransformerEncoder(one, 2, enable_nested_tensor=False), nn.Linear(32, 8)
        size = 100.0 ** (torch.arange(32) / 32)
        place = torch.arange(12.0)[:, None]
        self.register_buffer("places", place * size if multiplies else place / size / 4)

    def forward(self, words_NT: Tensor) -> Tensor:
        return self.out(self.encoder(self.embedding(words_NT) + self.get_buffer("places"))).transpose(1, 2)


@third(
    "goodfire-ai/spd#88",
    right={"FL501", "FL513", "input_scale", "position"},
    words=("position", "encod", "divide by", "too large"),
    line="places = place / size (and not place * size)",
    counts="That the encoding of places is far too large, and drowns the words.",
)
def places_are_multiplied(is_sick: bool) -> Training:
    """The encoding of a place is multiplied by what should divide it: it reaches a thousand, and drowns the words."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(8, (1280, 12), generator=generator)
    target = (words + words[:, :1]) % 8
    model = _Placed(multiplies=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(words, target, 32, 8), F.cross_entropy, optimizer)
