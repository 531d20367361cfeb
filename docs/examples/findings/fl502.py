"""A NaN in one sample: from that step on, every weight is NaN."""

from setting import batches, network, torch, watch

inputs, target = batches[4]
broken = inputs.clone()
broken[17, 30] = float("nan")
damaged = [*batches[:4], (broken, target), *batches[5:]]
model = network()
diagnosis = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3), damaged)

# Fixed: the sample is left out.
keep = torch.arange(64) != 17
model = network()
fixed = watch(
    model, torch.optim.Adam(model.parameters(), lr=1e-3), [*batches[:4], (inputs[keep], target[keep]), *batches[5:]]
)
