"""P5: the monitor at every=10 against none; beside it, histograms as W&B draws them, and a norm read per parameter.

Each variant trains a copy of its own. Blocks of ten steps are timed in turns, so that a busy machine slows all alike,
and the block of the same round without any monitor is what each is divided by. One thread. The first figure is that of
all blocks together, since the monitor measures several samples at once, in one block of many; then come median and
quartiles.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import frostline as fl
from helpers_vision import import_torchvision

EVERY = 10
_MAIN = ("none", "monitor, every 10")  # the pair in question; peers may have fewer rounds
Watcher = Callable[[Tensor], None]


class Runner:
    """A model in training, and what watches it."""

    def __init__(self, model: nn.Module, batch: tuple[Tensor, Tensor], watch: Callable[[Runner], Watcher]) -> None:
        self.model, self.batch = copy.deepcopy(model), batch
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.times: list[float] = []
        self.cpu_times: list[float] = []
        self.monitor: Any = None
        self.steps = 0
        self.watch = watch(self)

    def block(self) -> None:
        """Ten steps, timed. The others' time is not the loop's: the monitor's clock stands still meanwhile."""
        started, cpu_started = time.perf_counter(), time.process_time()
        if self.monitor is not None:
            self.monitor._account.resume()
        inputs, target = self.batch
        for _ in range(EVERY):
            loss = F.cross_entropy(self.model(inputs), target)
            loss.backward()
            self.optimizer.step()
            self.watch(loss)
            self.optimizer.zero_grad()
            self.steps += 1
        if self.monitor is not None:
            self.monitor._account.pause()
        self.times.append(time.perf_counter() - started)
        self.cpu_times.append(time.process_time() - cpu_started)


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Ratios of one run, medians over rounds, the middle half of them beside it."""
    import_torchvision()
    import timm

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        widths = [nn.Sequential(nn.Linear(256, 256), nn.ReLU()) for _ in range(6)]
        mlp = nn.Sequential(*[part for pair in widths for part in pair], nn.Linear(256, 10))
        resnet = timm.create_model("resnet18", pretrained=False, num_classes=10)
        labels = torch.randint(0, 10, (64,))
        figures: dict[str, Any] = {"threads": 1}
        figures |= _compare(
            "7-layer MLP, batch 64", mlp.to(device), torch.randn(64, 256), labels, device, 4 if is_quick else 120, 120
        )
        images = torch.randn(8, 3, 64, 64)
        figures |= _compare(
            "resnet18, batch 8 at 64 px", resnet.to(device), images, labels[:8], device, 2 if is_quick else 25, 6
        )
    finally:
        torch.set_num_threads(threads)
    return figures


def _compare(
    name: str, model: nn.Module, inputs: Tensor, labels: Tensor, device: str, rounds: int, peer_rounds: int
) -> dict[str, float | str]:
    batch = (inputs.to(device), labels.to(device))
    variants: dict[str, Callable[[Runner], Watcher]] = {
        "none": lambda _: lambda loss: None,
        "monitor, every 10": lambda runner: _monitored(runner, 0.03),
        "monitor, every 10, no sample left out": lambda runner: _monitored(runner, float("inf")),
        "histograms, every step": lambda runner: _histograms(runner, 1),
        "histograms, every 10": lambda runner: _histograms(runner, EVERY),
        "norm().item() per parameter, every step": _norms,
    }
    runners = {variant: Runner(model, batch, watch) for variant, watch in variants.items()}
    for at in range(rounds + 1):
        order = [runner for variant, runner in runners.items() if at <= peer_rounds or variant in _MAIN]
        for place in range(len(order)):
            order[(at + place) % len(order)].block()
            if device == "cuda":
                torch.cuda.synchronize()
    plain, cpu_plain = runners["none"].times[1:], runners["none"].cpu_times[1:]
    figures: dict[str, float | str] = {}
    for variant, runner in runners.items():
        if variant != "none":
            figures[f"{name}: {variant} / none"] = _ratio(runner.times[1:], plain)
            if device == "cpu":
                figures[f"{name}: {variant} / none, processor time"] = _ratio(runner.cpu_times[1:], cpu_plain)
    figures[f"{name}: step without a monitor, ms"] = median(plain) / EVERY * 1e3
    for variant, runner in runners.items():
        if runner.monitor is not None:
            own = 1 + runner.monitor.overhead
            runner.monitor.__exit__(None, None, None)
            taken, asked = runner.monitor.samples
            figures[f"{name}: {variant}: 1 + its own account (`overhead`)"] = own
            whole = sum(any(own.mean is not None for own in record.layers) for record in runner.monitor.records)
            figures[f"{name}: {variant}: samples taken / asked"] = f"{taken} / {asked}, {whole} of them with outputs"
    return figures


def _ratio(own: list[float], other: list[float]) -> str:
    pairs = list(zip(own, other[: len(own)], strict=True))
    together = sum(a for a, _ in pairs) / sum(b for _, b in pairs)
    low, middle, high = quantiles([a / b for a, b in pairs], n=4)
    return f"{together:.3f}; median {middle:.3f} ({low:.3f} to {high:.3f})"


def _monitored(runner: Runner, budget: float) -> Watcher:
    runner.monitor = fl.Monitor(runner.model, runner.optimizer, every=EVERY, budget=budget)
    runner.monitor.__enter__()
    runner.monitor._account.pause()
    return runner.monitor.step


def _histograms(runner: Runner, every: int) -> Watcher:
    """What `wandb.watch` does with each gradient before it is sent anywhere."""

    def watch(_: Tensor) -> None:
        if runner.steps % every == 0:
            for parameter in runner.model.parameters():
                flat = parameter.grad.detach().flatten()
                low, high = flat.min().item(), flat.max().item()
                if low == low and high == high:
                    torch.histc(flat, bins=64, min=low, max=high).cpu().tolist()

    return watch


def _norms(runner: Runner) -> Watcher:
    def watch(_: Tensor) -> None:
        for parameter in runner.model.parameters():
            parameter.grad.norm().item()

    return watch
