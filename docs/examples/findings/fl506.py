"""An LSTM without `batch_first=True`: it takes the samples of the batch for the steps of one sequence."""

from setting import batches, loss_fn, nn, torch

import frostline as fl


class Reader(nn.Module):
    """Reads a scan row by row, eight pixels at a time."""

    def __init__(self, batch_first):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=batch_first)
        self.head = nn.Linear(16, 10)

    def forward(self, x_BD):
        return self.head(self.lstm(x_BD.reshape(-1, 8, 8))[0][:, -1])


torch.manual_seed(0)
model = Reader(batch_first=False)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: batch_first=True.
model = Reader(batch_first=True)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
