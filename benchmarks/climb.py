"""Moving the frost line up by one block: rows of the new line from those of the old one, against the bare block."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from thaw import Network, network
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching import Earlier, fill_as_planned
from frostline.splitting import remembered_split

BATCH = 32


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Ratios of processor time, on one thread; each line is made from the one below it."""
    torch.set_num_threads(1)
    cases = {  # network, a sample, rows, the first line, and the blocks above it
        "convolutions at 32 px": (network(10), (1, 32, 32), 2000, "blocks.1", ("blocks.2", "blocks.3")),
        "resnet18 at 224 px": (resnet18(10), (3, 224, 224), 1000, "blocks.4", ("blocks.5", "blocks.6", "blocks.7")),
        "vit_tiny at 224 px": (vit_tiny(10), (3, 224, 224), 1000, "blocks.5", ("blocks.6",)),
    }
    figures: dict[str, Any] = {}
    for name, (model, shape, most, low, blocks) in cases.items():
        count, rounds = (60, 1) if is_quick else (most, 2)
        data = TensorDataset(torch.randn(count, *shape), torch.zeros(count, dtype=torch.int64))
        for block, (ratios, block_s) in _climbed(model.eval(), data, low, blocks, rounds).items():
            told = f"{name}, {block}, {count:,} rows"
            figures[f"{told}: the block, ms a row"] = 1000 * block_s / count
            figures[f"{told}: time / bare block (at most 1.1)"] = statistics.median(ratios)
    return figures


def _climbed(
    model: nn.Module, data: TensorDataset, low: str, blocks: tuple[str, ...], rounds: int
) -> dict[str, tuple[list[float], float]]:
    """By block: ratios of processor time, and the seconds of the bare block over all rows."""
    found: dict[str, tuple[list[float], float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        example = data.tensors[0][:8]
        fl.thaw(model)
        fl.freeze(model, through=low)
        split = fl.split(model, example)
        below = fill_as_planned(fl.FeatureCache(f"{folder}/low"), split, data, BATCH, progress=False)
        for name in blocks:
            fl.freeze(model, through=name)
            upper, middle = fl.split(model, example), remembered_split(split.head, split.extract(example), None)
            earlier, block, ratios, bare = Earlier(below, partial(_given, middle)), model.get_submodule(name), [], []
            rows = next(iter(below.loader(len(data))))[0][0]
            for number in range(rounds):
                cache = fl.FeatureCache(f"{folder}/{name} {number}")
                filled = partial(fill_as_planned, cache, upper, data, BATCH, progress=False, earlier=earlier)
                ours, above = _measured(filled)
                bare.append(_measured(partial(_forward, block, rows))[0])
                ratios.append(ours / bare[-1])
            found[name] = ratios, statistics.median(bare)
            split, below = upper, above
    return found


def _given(middle: Any) -> Any:
    return middle


def _forward(block: nn.Module, rows: torch.Tensor) -> None:
    with torch.no_grad():
        for part in rows.split(BATCH):
            block(part)


def _measured(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, as in He et al. 2015, figure 2."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.short = nn.Identity()
        if stride > 1:
            self.short = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps of the width, at the stride."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.short(x))


def resnet18(num_classes: int) -> nn.Module:
    """The stem stands in the first of its eight blocks."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    pairs = ((64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512))
    blocks = [BasicBlock(a, b, 1 if a == b else 2) for a, b in pairs]
    return Network([nn.Sequential(stem, blocks[0]), *blocks[1:]], num_classes, 512)


class Patches(nn.Module):
    """Patches of 16 pixels as tokens, with places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.places = nn.Conv2d(3, width, 16, 16), nn.Parameter(0.02 * torch.randn(1, 196, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, 196, width)."""
        return self.conv(x).flatten(2).transpose(1, 2) + self.places


def vit_tiny(num_classes: int) -> nn.Module:
    """The sizes of Touvron et al. 2021, table 1; the patches stand in the first of its twelve blocks."""
    torch.manual_seed(0)
    blocks = [
        nn.TransformerEncoderLayer(192, 3, 768, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(12)
    ]
    return Network([nn.Sequential(Patches(192), blocks[0]), *blocks[1:]], num_classes, 192)
