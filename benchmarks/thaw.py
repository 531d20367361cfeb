"""Moving the frost line in a run: thaw layer by layer, progressive freezing; with features kept and without."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from networks import convolutions, resnet18
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import frostline as fl

BATCH = 32


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Ratios of processor time, on one thread; losses of the same runs with and without a cache."""
    torch.set_num_threads(1)
    epochs = 4 if is_quick else 12
    pretrained = _pretrained(1 if is_quick else 6)
    return {
        **_thawed(pretrained, epochs),
        **_thawed_resnet(*(20, 4) if is_quick else (300, 16)),
        **_frozen_on_the_way(pretrained, epochs),
    }


def _thawed(pretrained: nn.Module, epochs: int) -> dict[str, Any]:
    """From the output layer down, one block every other epoch."""
    at = {2 + 2 * number: f"blocks.{5 - number}" for number in range((epochs - 2) // 2)}
    found = _both(pretrained, epochs, freeze="blocks.5", thaw=at)
    return {f"thaw, {epochs} epochs: {name}": value for name, value in found.items()}


def _thawed_resnet(count: int, epochs: int) -> dict[str, Any]:
    """From the output layer down, two blocks: half of the epochs, a quarter, a quarter; weights as they are drawn."""
    train, held_out = (part.tensors for part in digits(range(5, 10)))
    data = tuple(TensorDataset(F.interpolate(images[:most], size=96).expand(-1, 3, -1, -1).contiguous(), labels[:most])
                 for (images, labels), most in ((train, count), (held_out, count // 5)))  # fmt: skip
    at = {1 + epochs // 2: "blocks.7", 1 + 3 * epochs // 4: "blocks.6"}
    found = _both(resnet18(5), epochs, data, freeze="blocks.7", thaw=at)
    return {f"thaw, resnet18 at 96 px, {count} samples, {epochs} epochs: {name}": value
            for name, value in found.items() if name != "accuracy, held out"}  # fmt: skip


def _frozen_on_the_way(pretrained: nn.Module, epochs: int) -> dict[str, Any]:
    """Blocks that have converged are frozen, by our rule and by that of AutoFreeze."""
    found = _both(pretrained, epochs, freeze="converged")
    whole_s, score = _measured(lambda: _fit(pretrained, epochs, cache=False))
    peer_s, peer = _measured(lambda: autofreeze(copy.deepcopy(pretrained), epochs))
    return {
        **{f"freeze='converged', {epochs} epochs: {name}": value for name, value in found.items()},
        "freeze='converged': time of everything trained / with cache": whole_s / found["seconds with cache"],
        "everything trained: accuracy, held out": score.history[-1].val_metric,
        "AutoFreeze (median of gradient changes, no cache): time of everything trained / its": whole_s / peer_s,
        "AutoFreeze: accuracy, held out": peer[0],
        "AutoFreeze: blocks frozen after each epoch": " ".join(map(str, peer[1])),
    }


def _both(
    pretrained: nn.Module, epochs: int, data: tuple[TensorDataset, ...] | None = None, **options: Any
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        cached_s, cached = _measured(lambda: _fit(pretrained, epochs, data, cache=folder, **options))
    plain_s, plain = _measured(lambda: _fit(pretrained, epochs, data, cache=False, **options))
    differences = [abs(a.train_loss - b.train_loss) for a, b in zip(cached.history, plain.history, strict=True)]
    first = [phase.first_epoch for phase in cached.phases]
    return {
        "seconds with cache": cached_s,
        "time without cache / with": plain_s / cached_s,
        "largest difference of training losses": max(differences),
        "accuracy, held out": cached.history[-1].val_metric,
        "first epochs of the phases": " ".join(map(str, first)),
        "rows computed / reused": f"{cached.cache.computed} / {cached.cache.reused}" if cached.cache else "none",
    }


def _fit(pretrained: nn.Module, epochs: int, data: tuple[TensorDataset, ...] | None = None, **options: Any) -> Any:
    model = copy.deepcopy(pretrained)
    return fl.fit(model, *data or digits(range(5, 10)), epochs=epochs, batch_size=BATCH, optimizer="sgd", lr=0.01,
                  monitor=False, progress=False, **options)  # fmt: skip


def autofreeze(model: nn.Module, epochs: int) -> tuple[float, list[int]]:
    """AutoFreeze's rule in a plain loop, without its cache: (accuracy, blocks frozen after each epoch).

    After each epoch a front part is frozen: all blocks below the first whose accumulated gradient has changed, in
    norm and relative to the epoch before, by the median of the blocks that train, or more (Liu et al. 2021, arXiv
    2102.01386).
    """
    (inputs, targets), (held_inputs, held_targets) = (part.tensors for part in digits(range(5, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    norms: list[float] = []
    frozen, course = 0, []
    for epoch in range(epochs):
        model.train()
        for block in model.blocks[:frozen]:
            block.eval()
        sums = [[torch.zeros_like(p) for p in block.parameters()] for block in model.blocks]
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
        for part in order.split(BATCH):
            F.cross_entropy(model(inputs[part]), targets[part]).backward()
            for block, own in list(zip(model.blocks, sums, strict=True))[frozen:]:
                torch._foreach_add_(own, [p.grad for p in block.parameters()])
            optimizer.step()
            optimizer.zero_grad()
        now = [float(torch.stack(torch._foreach_norm(own)).norm()) for own in sums]
        if norms:
            changes = [abs(old - new) / old if old else 0.0 for old, new in zip(norms, now, strict=True)][frozen:]
            limit = statistics.median(changes)
            more = next((at for at, change in enumerate(changes) if change >= limit), 0)
            frozen = min(frozen + more, len(model.blocks) - 1)
            for p in (p for block in model.blocks[:frozen] for p in block.parameters()):
                p.requires_grad_(False)
                p.grad = None
        norms = now
        course.append(frozen)
    model.eval()
    with torch.no_grad():
        return float((model(held_inputs).argmax(1) == held_targets).float().mean()), course


def digits(classes: range) -> tuple[TensorDataset, TensorDataset]:
    """Scans of handwritten digits, 16 px: four fifths, and the rest."""
    inputs, targets = (torch.tensor(own) for own in load_digits(return_X_y=True))
    chosen = (targets >= classes.start) & (targets < classes.stop)
    images = F.interpolate(inputs[chosen].float().view(-1, 1, 8, 8) / 16, scale_factor=2, mode="bilinear")
    own, at = targets[chosen] - classes.start, 4 * int(chosen.sum()) // 5
    return TensorDataset(images[:at], own[:at]), TensorDataset(images[at:], own[at:])


def _pretrained(epochs: int) -> nn.Module:
    """Trained on digits 0 to 4, with a new output layer for 5 to 9."""
    model = convolutions(5)
    fl.fit(model, digits(range(5))[0], epochs=epochs, batch_size=BATCH, optimizer="sgd", lr=0.05, monitor=False,
           progress=False)  # fmt: skip
    fl.replace_head(model, 5)
    return model


def _measured(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = call()
    return time.process_time() - started, result
