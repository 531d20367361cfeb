"""A learning rate of 1e-4 for plain SGD: after three epochs the loss is almost what it was."""

from setting import network, torch, watch

model = network()
diagnosis = watch(model, torch.optim.SGD(model.parameters(), lr=1e-4))

# Fixed: a thousand times that.
model = network()
fixed = watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
