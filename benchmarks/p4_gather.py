"""P4: the public loader against raw `index_select` on the mapped file, rows of 2 KB and of 100 KB."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

import torch
from torch.utils.data import TensorDataset

import frostline as fl
from common import paired


class Part:
    """The wide rows themselves."""

    def __init__(self, repeats: int) -> None:
        self.repeats, self.recipe = repeats, {"repeats": str(repeats)}
        self.frontier = (fl.FrontierTensor("row", (512 * repeats,), torch.float32, 2048 * repeats, False),)

    def extract(self, inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """(B, 512) -> (B, 512 x repeats)."""
        return (inputs.repeat(1, self.repeats),)


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Bytes per second through the loader over those of raw index_select, best of paired rounds' median."""
    del device
    figures: dict[str, Any] = {}
    for name, repeats, count in (("2 KB", 1, 50_000), ("100 KB", 50, 4_000)):
        count = count // 20 if is_quick else count
        inputs = torch.randn(count, 512)
        with tempfile.TemporaryDirectory() as folder:
            dataset = TensorDataset(inputs, torch.zeros(count, dtype=torch.long))
            data = fl.FeatureCache(folder).fill(Part(repeats), dataset, batch_size=256, progress=False)
            gatherer = data._gatherer
            names = gatherer.names
            rows = [gatherer.shards.open(shard)["row"] for shard in names]
            loader = data.loader(256, shuffle=True)
            ratio = paired(partial(_raw, rows), partial(_ours, loader), 9)
            figures[f"loader / raw index_select, {name} rows, {len(names)} shards"] = ratio
    return figures


def _raw(rows: list[torch.Tensor]) -> None:
    for part in rows:
        for index in torch.randperm(len(part)).split(256):
            part.index_select(0, index)


def _ours(loader: Any) -> None:
    for batch in loader:
        del batch  # as the raw loop does: the memory is free for the next one
