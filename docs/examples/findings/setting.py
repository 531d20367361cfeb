"""What all examples share: real scans of digits in batches, a small network, and a loop that a monitor watches."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import frostline as fl

torch.manual_seed(0)
scans = load_digits()
inputs_BD = torch.tensor(scans.data, dtype=torch.float32) / 16
labels_B = torch.tensor(scans.target)
batches = [(inputs_BD[rows], labels_B[rows]) for _ in range(3) for rows in torch.randperm(1280).split(64)]
loss_fn = nn.CrossEntropyLoss()


def network(activation=nn.ELU, hidden=2):
    """Hidden layers of 32 units, and an output layer of 10."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 32), activation()]
    for _ in range(hidden - 1):
        layers += [nn.Linear(32, 32), activation()]
    return nn.Sequential(*layers, nn.Linear(32, 10))


def watch(model, optimizer, batches=batches, clip=None):
    """Train, and return what the monitor found."""
    with fl.Monitor(model, optimizer, every=2, budget=1.0) as monitor:
        for inputs, target in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), target)
            loss.backward()
            if clip is not None:
                clip(model.parameters())
            optimizer.step()
            monitor.step(loss)
    return monitor.diagnosis
