"""A loop without `optimizer.zero_grad()`: each step uses the sum of all gradients so far."""

from setting import batches, loss_fn, network, torch, watch

import frostline as fl

model = network()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
with fl.Monitor(model, optimizer, every=2, budget=1.0) as monitor:
    for inputs, target in batches:
        loss = loss_fn(model(inputs), target)
        loss.backward()
        optimizer.step()
        monitor.step(loss)
diagnosis = monitor.diagnosis

# Fixed: the loop above with `optimizer.zero_grad()`.
model = network()
fixed = watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
