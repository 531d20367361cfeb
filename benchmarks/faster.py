"""P2 and P3 with a faster frozen pass: plain eager features over a fill with `frozen_pass`, at 224 px.

Seconds of the processor on one thread, in turns, since a machine may be busy. P3 follows from them: 20 epochs
of the uncached loop over a fill and 20 epochs of the head, both without decoding.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching import Proofs
from frostline.core.timing import interleaved, paired_ratio
from helpers_vision import import_torchvision

MODELS = {"resnet18": "global_pool", "mobilenetv3_small_100": "conv_head", "vit_tiny_patch16_224": "norm"}
WAYS = {
    "plain": None, "channels last": ["channels_last"], "channels last, folded": ["channels_last", "fold"],
    "bfloat16": ["bf16"], "channels last, folded, bfloat16": ["channels_last", "fold", "bf16"],
}  # fmt: skip
EPOCHS = 20


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Of each model: speed-ups of the frozen pass, the fill and 20 epochs; the largest difference of a feature."""
    import_torchvision()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    count, rounds = (96, 1) if is_quick else (320, 3)
    try:
        figures: dict[str, Any] = {"images": count}
        for name, through in MODELS.items():
            figures |= _figures(name, through, device, count, rounds)
        return figures
    finally:
        torch.set_num_threads(threads)


def _figures(name: str, through: str, device: str, count: int, rounds: int) -> dict[str, Any]:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).to(device)
    fl.freeze(model, through=through)
    images = torch.randn(count, 3, 224, 224)
    dataset = TensorDataset(images, torch.arange(count) % 5)
    split = fl.split(model, images[:4].to(device))
    model.eval()
    batches = [part.to(device) for part in images.split(32)]

    @torch.no_grad()
    def eager() -> None:  # an uncached epoch runs the frozen layers, and the few behind them
        for batch in batches:
            model(batch)

    rows: dict[str, Any] = {}

    def fill(key: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            cache = fl.FeatureCache(folder)
            rows[key] = cache.fill(split, dataset, batch_size=32, progress=False, frozen_pass=WAYS[key])
            rows[key] = next(iter(rows[key].loader(32)))[0][0].clone()

    def frozen_pass(part: Any) -> None:
        for batch in batches:
            part.extract(batch)

    with tempfile.TemporaryDirectory() as folder:
        parts = {key: split.faster(ways, 32, Proofs(Path(folder))) if ways else split for key, ways in WAYS.items()}
    actions = [eager, *(partial(frozen_pass, part) for part in parts.values())]
    base, *others = interleaved(actions, rounds=rounds, clock=time.process_time)
    fills = {key: _processor_s(partial(fill, key)) for key in WAYS}
    head = split.head.eval()
    head_s = _processor_s(lambda: [head(rows["plain"].to(device)) for _ in range(count // 32)])
    scale, eager_s = float(rows["plain"].abs().max()), statistics.median(base)
    figures: dict[str, Any] = {}
    for key, times in zip(WAYS, others, strict=True):
        cached_s = fills[key] + EPOCHS * head_s
        difference = float((rows[key] - rows["plain"]).abs().max()) / scale
        figures |= {
            f"{name}, {key}: eager forward / frozen pass": paired_ratio(base, times),
            f"{name}, {key}: eager forward / fill": eager_s / fills[key],
            f"{name}, {key}: {EPOCHS} epochs, uncached forward / cached": EPOCHS * eager_s / cached_s,
            f"{name}, {key}: largest difference / largest feature": f"{difference:.1e}",
        }
    return figures


def _processor_s(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started
