"""A small model of sentences, sentences of differing length, and a collate function that pads them."""

import torch
from torch import nn

WORDS, WIDTH, LONGEST = 30, 8, 40


class Mixer(nn.Module):
    """Places look at each other through the mask, as in attention."""

    def __init__(self):
        super().__init__()
        self.query, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x_BTD, mask_BT):
        scores = self.query(x_BTD) @ x_BTD.mT
        scores = scores.masked_fill(~mask_BT[:, None].bool(), -1e9)
        return x_BTD + scores.softmax(-1) @ self.value(x_BTD)


class Sentences(nn.Module):
    """Embedding, positions, two mixers, and a classifier over the first place, or what `pool` gives."""

    def __init__(self, pool="first"):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.low, self.high = Mixer(), Mixer()
        self.classifier = nn.Linear(WIDTH, 2)
        self.pool = pool

    def forward(self, ids, mask):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        x = self.high(self.low(x, mask), mask)
        if self.pool == "each":
            return self.classifier(x)
        return self.classifier(x.mean(1) if self.pool == "mean" else x[:, 0])


def sentence(index, label=None):
    generator = torch.Generator().manual_seed(index)
    ids = torch.randint(1, WORDS, (int(torch.randint(2, 12, (1,), generator=generator)),), generator=generator)
    return ids, index % 2 if label is None else label


def sentences(count=24):
    return [sentence(index) for index in range(count)]


def pad(items):
    ids = nn.utils.rnn.pad_sequence([ids for ids, _ in items], batch_first=True)
    return {"ids": ids, "mask": (ids > 0).long(), "labels": torch.tensor([label for _, label in items])}
