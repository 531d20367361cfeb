"""Scans sorted by their digit, in batches without a shuffle: a step sees one or two of the ten classes."""

from setting import batches, inputs_BD, labels_B, loss_fn, network, torch

import frostline as fl

order = labels_B[:1280].argsort(stable=True)
in_order = [(inputs_BD[rows], labels_B[rows]) for _ in range(3) for rows in order.split(64)]
model = network()
diagnosis = fl.checkup(model, in_order, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))

# Fixed: `batches` is drawn anew in each epoch, as by DataLoader(..., shuffle=True).
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))
