"""A sweep of 16 heads over 50,000 x 512 stored rows against one head, in processor time."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl

D, C, K, BATCH, EPOCHS = 512, 10, 16, 256, 1


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Ratios of one run, medians of paired rounds; the time of the process, since a machine may have other work."""
    count, rounds = (5_000, 1) if is_quick else (50_000, 3)
    torch.manual_seed(0)
    inputs = torch.randn(count, D)
    targets = (inputs @ torch.randn(D, C) + 8 * torch.randn(count, C)).argmax(1)
    figures: dict[str, Any] = {"rows": count, "heads": K, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        for kind, head, num in (("linear", nn.Linear(D, C), rounds), ("64 ReLU units", _mlp(), 1)):
            model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), head).to(device)
            fl.freeze(model, through="1")
            split = fl.split(model, inputs[:4].to(device))
            data = fl.FeatureCache(folder).fill(split, TensorDataset(inputs, targets), batch_size=512, progress=False)
            val = data.part(range(0, count, 5))
            figures |= _figures(kind, split.head, data, val, num)
    return figures


def _figures(kind: str, head: nn.Module, data: Any, val: Any, rounds: int) -> dict[str, Any]:
    many = {"lr": [10 ** (-4 + at / 8) for at in range(K)]}

    def sweep(settings: Any) -> fl.SweepResult:
        return fl.sweep(head, data, settings, val=val, epochs=EPOCHS, batch_size=BATCH, apply=False, progress=False)

    def loop() -> None:
        _loop(head, data, val)

    result = sweep(many)
    worst = max(
        abs(one.train_loss - other.train_loss) / other.train_loss
        for number in (0, K - 1)
        for one, other in zip(result.history[number], sweep([{"lr": many["lr"][number]}]).history[0], strict=True)
    )
    return {
        f"{kind}: computed": result.best.way,
        f"{kind}: {K} heads / one head by sweep": _paired(lambda: sweep(many), lambda: sweep([{}]), rounds),
        f"{kind}: {K} heads / a loop of one's own for one head": _paired(lambda: sweep(many), loop, rounds),
        f"{kind}: largest relative difference of a loss to the head alone": worst,
    }


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, C))


def _loop(head: nn.Module, data: Any, val: Any) -> None:
    """What one would write: the loader, AdamW, and the accuracy after every epoch."""
    import copy

    own = copy.deepcopy(head)
    optimizer = torch.optim.AdamW(own.parameters(), lr=1e-3)
    loader, val_loader = data.loader(BATCH, shuffle=True), val.loader(BATCH)
    for _ in range(EPOCHS):
        own.train()
        for features, target in loader:
            loss = F.cross_entropy(own(*features), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        own.eval()
        with torch.no_grad():
            sum(int((own(*features).argmax(1) == target).sum()) for features, target in val_loader)


def _paired(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> float:
    return statistics.median([_seconds(ours) / _seconds(other) for _ in range(rounds)])


def _seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() - started
