"""Series of 20 times and 4 channels are reshaped for a convolution, which wants channels first, not transposed."""

from setting import loss_fn, nn, torch

import frostline as fl


class Series(nn.Module):
    """A convolution over time."""

    def __init__(self, *, transposes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(4, 16, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.out, self.transposes = nn.Linear(16, 4), transposes

    def forward(self, inputs):
        inputs = inputs.transpose(1, 2) if self.transposes else inputs.reshape(len(inputs), 4, 20)
        return self.out(self.body(inputs))


torch.manual_seed(0)
labels = torch.randint(4, (1280,))
series = torch.randn(1280, 20, 4)
series[torch.arange(1280), :, labels] += 1.5 * torch.sin(torch.arange(20) + 6 * torch.rand(1280, 1))
batches = [(series[rows], labels[rows]) for _ in range(3) for rows in torch.randperm(1280).split(32)]
model = Series(transposes=False)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=5e-3))

# Fixed: a transpose.
model = Series(transposes=True)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=5e-3))
