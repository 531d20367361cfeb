"""Write small files of PyTorch, for the fuzzer: the tests themselves write theirs.

Needs torch 2.13:

    python tests/porting/make/pytorch.py
"""

import json
import warnings
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(__file__).parents[1] / "files" / "torch"


def main() -> None:
    """Write a state dict in both formats, a training run with tensors of all kinds, and a TorchScript module."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Linear(2, 2))
    state = model.state_dict()
    torch.save(state, FOLDER / "state.pt")
    torch.save(state, FOLDER / "older.pt", _use_new_zipfile_serialization=False)
    kinds = {
        "half": torch.randn(3).bfloat16(), "small": torch.randn(3).to(torch.float8_e4m3fn),
        "view": torch.randn(4, 3).T, "coo": torch.eye(3).to_sparse(), "csr": torch.eye(3).to_sparse_csr(),
        "whole": torch.quantize_per_tensor(torch.randn(3), 0.1, 3, torch.qint8),
        "rows": torch.quantize_per_channel(torch.randn(2, 3), torch.rand(2), torch.tensor([0, 1]), 0, torch.qint8),
    }  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(1, 2, 3, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": {**state, **kinds}, "optimizer": optimizer.state_dict(), "epoch": 3}, FOLDER / "run.pt")
    torch.jit.script(model.eval()).save(FOLDER / "script.pt")
    save_shards(state, FOLDER / "shards")


def save_shards(state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write an index and two shards as transformers does."""
    folder.mkdir(exist_ok=True)
    shards = {f"pytorch_model-0000{number}-of-00002.bin": list(state)[number - 1 :: 2] for number in (1, 2)}
    for shard, names in shards.items():
        torch.save({name: state[name] for name in names}, folder / shard)
    where = {name: shard for shard, names in shards.items() for name in names}
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in state.values())}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    main()
