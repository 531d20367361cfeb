"""A recurrent layer that runs both ways predicts the next word: it has read it."""

from setting import nn, torch

import frostline as fl


class NextWord(nn.Module):
    """Predicts the next word at each place."""

    def __init__(self, *, both_ways):
        super().__init__()
        self.embedding = nn.Embedding(12, 16)
        self.recurrent = nn.GRU(16, 16, batch_first=True, bidirectional=both_ways)
        self.out = nn.Linear(32 if both_ways else 16, 12)

    def forward(self, words):
        return self.out(self.recurrent(self.embedding(words))[0]).transpose(1, 2)


torch.manual_seed(0)
words = (torch.randint(12, (640, 1)) + torch.randint(1, 3, (640, 13)).cumsum(1)) % 12
batches = [(words[rows, :-1], words[rows, 1:]) for _ in range(3) for rows in torch.randperm(640).split(32)]
model = NextWord(both_ways=True)
diagnosis = fl.checkup(model, batches, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: one way.
model = NextWord(both_ways=False)
fixed = fl.checkup(model, batches, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-2))
