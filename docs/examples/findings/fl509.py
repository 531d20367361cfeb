"""Rows of words that are filled up with padding, which the loss counts as words."""

from setting import nn, torch

import frostline as fl


class Tagger(nn.Module):
    """Predicts for each word whether it is even."""

    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(50, 16), nn.Linear(16, 3)

    def forward(self, words):
        return self.out(self.embedding(words)).transpose(1, 2)


torch.manual_seed(0)
words = torch.randint(1, 50, (640, 20))
words[:, 5:] = 0  # padding
tags = torch.where(words > 0, 1 + words % 2, 0)
batches = [(words[rows], tags[rows]) for _ in range(3) for rows in torch.randperm(640).split(32)]
model = Tagger()
diagnosis = fl.checkup(model, batches, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: the label of padding is ignored.
loss_fn = nn.CrossEntropyLoss(ignore_index=0)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
