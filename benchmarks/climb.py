"""Moving the frost line up by one block: rows of the new line from those of the old one, against the bare block."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from networks import convolutions, resnet18, vit_tiny
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching import Earlier, fill_as_planned
from frostline.caching.fill.frozen_pass import GOLDEN_ROWS
from frostline.splitting import remembered_split

BATCH = 32


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Ratios of processor time, on one thread; each line is made from the one below it."""
    torch.set_num_threads(1)
    cases = {  # network, a sample, rows, rounds, the first line, and the blocks above it
        "convolutions at 32 px": (convolutions(10), (1, 32, 32), 2000, 3, "blocks.1", ("blocks.2",)),
        "vit_tiny at 224 px": (vit_tiny(10), (3, 224, 224), 600, 1, "blocks.5", ("blocks.6",)),
        "resnet18 at 224 px": (resnet18(10), (3, 224, 224), 600, 1, "blocks.4", ("blocks.5", "blocks.6", "blocks.7")),
    }
    figures: dict[str, Any] = {}
    for name, (model, shape, most, rounds, low, blocks) in cases.items():
        count = 60 if is_quick else most
        data = TensorDataset(torch.randn(count, *shape), torch.zeros(count, dtype=torch.int64))
        for block, (ratios, block_s, items_s) in _climbed(model.eval(), data, low, blocks, rounds).items():
            told = f"{name}, {block}, {count:,} rows"
            figures[f"{told}: the block, ms a row"] = 1000 * block_s / count
            figures[f"{told}: time / bare block (at most 1.1)"] = statistics.median(ratios)
            figures[f"{told}: of it, {GOLDEN_ROWS} rows computed from the items"] = items_s / block_s
    return figures


def _climbed(
    model: nn.Module, data: TensorDataset, low: str, blocks: tuple[str, ...], rounds: int
) -> dict[str, tuple[list[float], float, float]]:
    """By block: ratios of processor time, seconds of the bare block over all rows, and of some rows from the items."""
    found: dict[str, tuple[list[float], float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        example = data.tensors[0][:8]
        fl.thaw(model)
        fl.freeze(model, through=low)
        split = fl.split(model, example)
        below = fill_as_planned(fl.FeatureCache(f"{folder}/low").location, split, data, BATCH, progress=False)
        for name in blocks:
            fl.freeze(model, through=name)
            upper, middle = fl.split(model, example), remembered_split(split.head, split.extract(example), None)
            earlier, block, ratios, bare = Earlier(below, partial(_given, middle)), model.get_submodule(name), [], []
            rows = next(iter(below.loader(len(data))))[0][0]
            for number in range(rounds):
                location = fl.FeatureCache(f"{folder}/{name} {number}").location
                filled = partial(fill_as_planned, location, upper, data, BATCH, progress=False, earlier=earlier)
                ours, above = _measured(filled)
                bare.append(_measured(partial(_forward, block, rows))[0])
                ratios.append(ours / bare[-1])
            items_s = _measured(partial(upper.extract, data.tensors[0][:GOLDEN_ROWS]))[0]
            found[name] = ratios, statistics.median(bare), items_s
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
