"""Targets from 25 to 346: a new network gives outputs of about 1, and its weights have a long way to go."""

from setting import nn, torch
from sklearn.datasets import load_diabetes

import frostline as fl

torch.manual_seed(0)
patients = load_diabetes(scaled=False)
inputs_BD = torch.tensor(patients.data, dtype=torch.float32)
inputs_BD = (inputs_BD - inputs_BD.mean(0)) / inputs_BD.std(0)
targets_B1 = torch.tensor(patients.target, dtype=torch.float32)[:, None]
batches = [(inputs_BD[rows], targets_B1[rows]) for _ in range(10) for rows in torch.randperm(442).split(64)]
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
diagnosis = fl.checkup(model, batches, nn.MSELoss(), optimizer)

# Fixed: targets of mean 0 and standard deviation 1; multiply predictions by 77 and add 152 to go back.
standardised = [(inputs, (target - 152) / 77) for inputs, target in batches]
fixed = fl.checkup(model, standardised, nn.MSELoss(), optimizer)
