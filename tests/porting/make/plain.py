"""Small files of safetensors, in one piece and in shards, and of NumPy, each with its arrays (`.npz`).

Needs what the library's tests need (`torch safetensors huggingface_hub numpy ml_dtypes`):

    python tests/porting/make/plain.py tests/porting/files/plain
"""

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import nn


def main(folder):
    """Write all of them."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)))
    state = {name: torch.rand(tensor.shape).to(tensor.dtype) for name, tensor in model.state_dict().items()}
    np.savez_compressed(folder / "network.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    save_torch_state_dict(state, folder, max_shard_size=250)
    wrapped = {
        f"module.{name}": tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in state.items()
    }
    save_file(wrapped, folder / "half.safetensors", metadata={"format": "pt"})
    values = np.random.default_rng(1).uniform(0.5, 1.5, (3, 2)).astype(np.float32)
    flat = {
        "opt/target/encoderblock_1/Dense_0/kernel": values,
        "opt/target/encoderblock_10/Dense_0/kernel": values.astype(ml_dtypes.bfloat16),
        "opt/target/head/bias": np.asfortranarray(values),
        "opt/state/head/bias/grad_ema": values,
    }
    np.savez(folder / "vision.npz", **flat)
    np.save(folder / "one.npy", values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
