"""Write the ONNX file of `tests/porting/files/projections`: attentions of four linear layers each, and golden outputs.

Needs torch==2.13.0 and onnx==1.23.2 (`pip install torch onnx`).
Run: `python tests/porting/make/projections_onnx.py` from the root of the repository.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

OUT = Path(__file__).parents[1] / "files" / "projections"


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.q_proj, self.k_proj = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.v_proj, self.out_proj = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        h = self.norm(x)
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (one(h).reshape(x.shape[0], -1, 2, 4).transpose(1, 2) for one in projections)
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1) @ v
        return x + self.out_proj(mixed.transpose(1, 2).reshape(x.shape[0], -1, 8))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    network, x = nn.Sequential(Attention(), Attention()).eval(), torch.randn(3, 5, 8)
    for one in network.parameters():
        one.data = torch.randn_like(one) / 3
    torch.onnx.export(network, (x,), str(OUT / "separate.onnx"), dynamo=False)
    np.savez_compressed(OUT / "separate.npz", inputs=x.numpy(), outputs=network(x).detach().numpy())
