"""Pixels from 0 to 255, as a file holds them; the first outputs are large, too (FL302)."""

from setting import batches, network, torch, watch

raw = [(255 * inputs, target) for inputs, target in batches]
model = network()
diagnosis = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3), raw)

# Fixed: pixels from 0 to 1.
scaled = [(inputs / 255, target) for inputs, target in raw]
model = network()
fixed = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3), scaled)
