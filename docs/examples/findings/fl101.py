"""Seven layers of sigmoids: each multiplies the gradient by a quarter at most on its way down."""

from setting import network, nn, torch, watch

model = network(nn.Sigmoid, hidden=7)
diagnosis = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3))

# Fixed: ELU in place of the sigmoids.
model = network(nn.ELU, hidden=7)
fixed = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3))
