"""The main job on real scans: a sick network is healed; then one trained on digits 0-4 is reused for digits 5-9.

The first act is in `sick_network.py`, the third, a network of Keras, in `foreign_weights.py`. In the second, lower
layers are frozen and run once per image; the same run without a cache proves that the result is the same.
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from frostline.core.io import make_folder
from frostline.core.new_files import write_json
from frostline.core.records import FitResult
from frostline.core.timing import timed
from frostline.data import Arrays
from frostline.demo.data import accuracy, few_per_class, load_placed_task, save_arrays
from frostline.demo.foreign_weights import run_port_act
from frostline.demo.reuse_tables import DataRow, DemoResult, ShareRow, TimeRow
from frostline.demo.sick_network import run_health_act
from frostline.recipes.fit import fit
from frostline.recipes.reuse import reuse
from frostline.recipes.save import save_model
from frostline.transfer import freeze, replace_head

SEEDS = (0, 1, 2)
EPOCHS = {5: 40, 20: 20, None: 16}  # the same for both sides; None: all images
_BODY = "body"
_CUTS = {2: "body.3", 4: "body.7", 6: "body.11"}  # after so many convolutions
_CUT_EPOCHS = 4
_COPIES = 3  # of the source's images, each at a place of its own
_LR = 2e-3


class DigitNet(nn.Module):
    """Six convolutions with ELU and He initialisation, and a linear head that keeps the spatial features.

    Input (B, 1, 32, 32), output (B, 5).

    References:
        Clevert, Unterthiner, Hochreiter (2016), Fast and accurate deep network learning by exponential linear units.
        He, Zhang, Ren, Sun (2015), Delving deep into rectifiers, section 2.2.
    """

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (1, 16, 32, 32, 48, 48, 48), (2, 1, 2, 1, 2, 1)
        layers: list[nn.Module] = []
        for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            conv = nn.Conv2d(before, after, 3, stride, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, nn.ELU()]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(48 * 4 * 4, 5)

    def forward(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, 5)."""
        return self.head(self.body(images_B1HW))


def build() -> nn.Module:
    """The demo's network; `frostline fit DATA --model frostline.demo.demo:build` takes it."""
    return DigitNet()


def run_demo(out: Path) -> DemoResult:
    """Run the demo; files go to `out`.

    Everything runs on one thread: layers this small are little faster on two, and many times slower where the machine
    is busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(out)
    finally:
        torch.set_num_threads(threads)


def _run(out: Path) -> DemoResult:
    started = time.perf_counter()
    make_folder(out)
    health = run_health_act(out / "health", _say)
    (source, _), (task, test) = load_placed_task(range(5), _COPIES), load_placed_task(range(5, 10))
    _say("Training the source network on digits 0-4")
    pretrained = _pretrain(source)
    weights = save_model(pretrained, out / "pretrained", {"model": "frostline.demo.demo:build"})
    save_arrays(out / "digits-5-9.npz", task)
    rows, scratch = _compare_by_data(weights, task, test, out / "features")
    times, model, difference = _compare_by_time(weights, task, test, scratch, rows[-1].scratch[0], out)
    shares = _compare_by_share(weights, task, out / "shares")
    saved = save_model(
        model, out / "model", {"model": "frostline.demo.demo:build", "classes": list(task.classes or ())}
    )
    ported = run_port_act(_say)
    total_s = time.perf_counter() - started
    result = DemoResult(
        health, ported, tuple(rows), tuple(times), shares, difference, total_s, str(out), str(weights), str(saved)
    )
    write_json(out / "result.json", result.as_json())
    return result


def _pretrain(train: Arrays) -> nn.Module:
    torch.manual_seed(0)
    model = DigitNet()
    fit(model, train, epochs=8, lr=_LR, cache=False, progress=False)
    return model


def _new(weights: Path, seed: int, *, is_reused: bool, frozen: str = _BODY) -> nn.Module:
    """A fresh network; reused: with the source's convolutions, frozen through a layer, and a new head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DigitNet()
        if is_reused:
            reuse(weights, model, through=_BODY)
            replace_head(model, 5)
            freeze(model, frozen)
    return model


def _compare_by_data(weights: Path, task: Arrays, test: Arrays, features: Path) -> tuple[list[DataRow], FitResult]:
    rows: list[DataRow] = []
    last: FitResult | None = None
    for count, epochs in EPOCHS.items():
        _say(f"{'All' if count is None else count} images per class: from scratch against reused, {len(SEEDS)} seeds")
        scratch: list[float] = []
        reused: list[float] = []
        for seed in SEEDS:
            part = few_per_class(task, count, seed)
            for scores, is_reused in ((scratch, False), (reused, True)):
                model = _new(weights, seed, is_reused=is_reused)
                cache = features if is_reused else False  # the frozen layers are those of every seed and size
                result = fit(model, part, epochs=epochs, lr=_LR, seed=seed, cache=cache, progress=False)
                scores.append(accuracy(model, test))
                last = result if not is_reused and seed == 0 else last
        rows.append(DataRow(count, len(few_per_class(task, count, 0)), tuple(scratch), tuple(reused)))
    assert last is not None  # EPOCHS is not empty
    return rows, last


def _compare_by_time(
    weights: Path, task: Arrays, test: Arrays, scratch: FitResult, scratch_accuracy: float, out: Path
) -> tuple[list[TimeRow], nn.Module, float]:
    _say("The same run, uncached and cached")
    epochs = EPOCHS[None]
    uncached = _new(weights, 0, is_reused=True)
    cached = copy.deepcopy(uncached)
    plain = fit(uncached, task, epochs=epochs, lr=_LR, seed=0, cache=False, progress=False)
    fast = fit(cached, task, epochs=epochs, lr=_LR, seed=0, cache=True, out=out / "run", overwrite=True,
               progress=False)  # fmt: skip
    difference = max(
        float((a - b).detach().abs().max()) for a, b in zip(uncached.parameters(), cached.parameters(), strict=True)
    )
    rows = [
        TimeRow.of("from scratch", scratch_accuracy, scratch),
        TimeRow.of("reused, frozen, uncached", accuracy(uncached, test), plain),
        TimeRow.of("reused, frozen, cached", accuracy(cached, test), fast),
    ]
    return rows, cached, difference


def _compare_by_share(weights: Path, task: Arrays, features: Path) -> tuple[ShareRow, ...]:
    """The same epochs with and without a cache, frozen ever higher."""
    _say("Uncached and cached, frozen through two, four and six convolutions")
    rows: list[ShareRow] = []
    for count, layer in _CUTS.items():
        epochs_s: list[float] = []
        for cache in (False, features):
            model = _new(weights, 0, is_reused=True, frozen=layer)
            done = fit(model, task, epochs=_CUT_EPOCHS, lr=_LR, seed=0, cache=cache, progress=False)
            epochs_s.append(done.timings.epochs_s / _CUT_EPOCHS)
        rows.append(ShareRow(count, _frozen_share(_new(weights, 0, is_reused=True), layer, task), *epochs_s))
    return tuple(rows)


def _frozen_share(model: nn.Module, layer: str, task: Arrays) -> float:
    """Share of the forward time that is spent up to a layer of the body: the middle of five."""
    body: Any = model.get_submodule(_BODY)
    cut = int(layer.rpartition(".")[2]) + 1
    lower, upper = nn.Sequential(*list(body)[:cut]), nn.Sequential(*list(body)[cut:], model.get_submodule("head"))
    images = task.inputs[:256]
    shares: list[float] = []
    with torch.no_grad():
        for _ in range(5):
            features = lower(images)
            frozen_s, rest_s = timed(lambda: lower(images)), timed(lambda features=features: upper(features))
            shares.append(frozen_s / (frozen_s + rest_s))
    return median(shares)


def _say(text: str) -> None:
    sys.stderr.write(f"{text} ...\n")
