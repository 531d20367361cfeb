"""One batch in another unit: its pixels go to 100 in place of 1."""

from setting import batches, network, torch, watch

import frostline as fl

inputs, target = batches[40]
mixed = [*batches[:40], (100 * inputs, target), *batches[41:]]
model = network()
diagnosis = watch(model, torch.optim.SGD(model.parameters(), lr=0.05), mixed)

# Fixed: gradients are clipped at a percentile of the norms measured so far. Better still: correct the batch.
model = network()
fixed = watch(model, torch.optim.SGD(model.parameters(), lr=0.05), mixed, clip=fl.remedies.clip_by_percentile(90))
