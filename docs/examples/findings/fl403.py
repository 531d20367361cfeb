"""A momentum of 0.99: each step follows the gradients of the last hundred, and overshoots."""

from setting import network, torch, watch

model = network()
diagnosis = watch(model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.99))

# Fixed: a momentum of 0.9.
model = network()
fixed = watch(model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
