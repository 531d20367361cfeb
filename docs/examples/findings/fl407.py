"""A schedule of epochs that is stepped after each batch: after nine batches the rate is a thousandth."""

from setting import batches, loss_fn, network, torch

import frostline as fl


def scheduled(size):
    """Train at a rate that falls to a tenth after each so many batches."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, size, 0.1)
    with fl.Monitor(model, optimizer, every=2, budget=1.0) as monitor:
        for inputs, target in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), target)
            loss.backward()
            optimizer.step()
            schedule.step()
            monitor.step(loss)
    return monitor.diagnosis


diagnosis = scheduled(size=3)

# Fixed: the length of a step in batches: three epochs of 20.
fixed = scheduled(size=3 * 20)
