"""One row of a table of positions is added to all words: attention does not see which of two words comes first."""

from setting import loss_fn, nn, torch

import frostline as fl


class Reader(nn.Module):
    """Attention over words, and the mean over all of them."""

    def __init__(self, rows):
        super().__init__()
        self.words, self.position, self.rows = nn.Embedding(9, 16), nn.Parameter(torch.randn(1, 9, 16)), rows
        self.layer, self.head = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True), nn.Linear(16, 2)

    def forward(self, words_BT):
        return self.head(self.layer(self.words(words_BT) + self.position[:, self.rows]).mean(1))


torch.manual_seed(0)
words, at = torch.randint(2, 9, (640, 6)), torch.rand(640, 6).argsort(1)
words[torch.arange(640), at[:, 0]], words[torch.arange(640), at[:, 1]] = 0, 1
labels = (at[:, 0] < at[:, 1]).long()
sentences = [(words[rows], labels[rows]) for _ in range(6) for rows in torch.randperm(640).split(32)]
model = Reader(rows=6)
diagnosis = fl.checkup(model, sentences, loss_fn, torch.optim.Adam(model.parameters(), lr=5e-3))

# Fixed: a row of the table for each place.
model = Reader(rows=slice(6))
fixed = fl.checkup(model, sentences, loss_fn, torch.optim.Adam(model.parameters(), lr=5e-3))
