"""The demo's first act: a deep network that cannot learn the digits, what is found, the cure, and the proof."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from frostline.demo.data import accuracy, load_digits_task
from frostline.demo.sick_network_tables import Course, HealthAct
from frostline.recipes.fit import fit
from frostline.recipes.healing import heal_first

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.data import Arrays
    from frostline.recipes.healing import Healed

EPOCHS = 4
_SEED, _BATCH_SIZE = 0, 64
_WIDTHS, _STRIDES = (1, 8, 16, 16, 16, 24, 24, 24, 24), (2, 2, 1, 1, 2, 1, 1, 1)


def build_deep(activation: Callable[[], nn.Module], *, is_he: bool) -> nn.Sequential:
    """Eight convolutions and a linear head, input (B, 1, 32, 32), output (B, 10).

    Args:
        activation: After each convolution.
        is_he: True for He initialisation; False leaves what `nn.Conv2d` draws, which shrinks gradients by two thirds
            per layer before the activation has taken its share.

    References:
        Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural networks.
        He, Zhang, Ren, Sun (2015), Delving deep into rectifiers, section 2.2.
    """
    model = nn.Sequential()
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        for at, stride in enumerate(_STRIDES, 1):
            conv = nn.Conv2d(_WIDTHS[at - 1], _WIDTHS[at], 3, stride, padding=1)
            if is_he:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            model.add_module(f"conv{at}", conv)
            model.add_module(f"act{at}", activation())
        model.add_module("flat", nn.Flatten())
        model.add_module("head", nn.Linear(_WIDTHS[-1] * 4 * 4, 10))
    return model


def build() -> nn.Module:
    """The sick network; `frostline checkup frostline.demo.sick_network:build DATA` takes it."""
    return build_deep(nn.Sigmoid, is_he=False)


def run_health_act(out: Path, say: Callable[[str], None]) -> HealthAct:
    """Heal a sick network, and train it untreated and a sound twin for as many steps; records go to `out`."""
    train, test = load_digits_task(range(10))
    say("A deep network of sigmoids on the digits: examined, treated, trained")
    model = build()
    first = heal_first(
        model, train, F.cross_entropy, lambda: torch.optim.AdamW(model.parameters(), lr=1e-3), batch_size=_BATCH_SIZE,
        seed=_SEED, progress=False,
    )  # fmt: skip
    assert first.healing is not None  # None stands for no call
    healed = _train("healed", model, train, test, EPOCHS, out, first)
    epochs = EPOCHS + round(first.steps / _steps_per_epoch(train))
    say("The same network untreated, and a twin that was built right, for as many steps")
    sick = _train("sick", build(), train, test, epochs, out)
    right = _train("built right", build_deep(nn.ELU, is_he=True), train, test, epochs, out)
    total_s = sick.elapsed_s + healed.elapsed_s + right.elapsed_s
    before = first.healing.before
    return HealthAct(sick, healed, right, before.findings, before.cause, first.healing.treatments,
                     first.healing.loss_before, total_s)  # fmt: skip


def _train(
    name: str, model: nn.Module, train: Arrays, test: Arrays, epochs: int, out: Path, first: Healed | None = None
) -> Course:
    """One course of training, which goes on from a healing if there was one."""
    folder = out / name.replace(" ", "-")
    result = fit(model, train, epochs=epochs, cache=False, out=folder, seed=_SEED, batch_size=_BATCH_SIZE,
                 progress=False, overwrite=True, optimizer=first.optimizer if first else "adamw")  # fmt: skip
    steps = (first.steps if first else 0) + epochs * _steps_per_epoch(train)
    gradients = _first_gradients(max(folder.glob("health*.jsonl"), key=lambda path: path.stat().st_mtime_ns))
    elapsed_s = result.timings.total_s + (first.elapsed_s if first else 0.0)
    return Course(name, gradients, accuracy(model, test), result.history[-1].train_loss, steps, elapsed_s)


def _steps_per_epoch(train: Arrays) -> int:
    return -(-len(train) // _BATCH_SIZE)


def _first_gradients(records: Path) -> tuple[tuple[str, float], ...]:
    """Of the layers with weights; a treatment may have put one into a pair with its BatchNorm."""
    with records.open() as lines:
        layers = json.loads(next(lines))["layers"]
    named = ((layer["layer"].removesuffix(".layer"), layer.get("gradient_norm")) for layer in layers)
    return tuple((name, norm) for name, norm in named if norm is not None and name.startswith(("conv", "head"))
                 and "." not in name)  # fmt: skip
