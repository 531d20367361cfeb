"""The monitor inside of `fit`: where its numbers go while the epochs run, and the findings at the end."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.io import make_folder
from frostline.diagnosis import JsonLines, Monitor, all_of, diagnosis_of, judge_loop, probe_loss
from frostline.diagnosis.rules import input_scale
from frostline.training import log_figures, not_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.core.records import Diagnosis, Epoch, Finding
    from frostline.diagnosis import Evidence, InputFacts, LossFacts
    from frostline.recipes.training_setup import Ready


_PRETRAINED = " Pretrained layers need inputs scaled as in their own training."


class Watching:
    """Watches the epochs of one run: records to `health.jsonl`, gradients by layer to Fabric's loggers.

    Args:
        model: The whole model of the run.
        fabric: Lightning Fabric, with the loggers of the run, if any.
        folder: Of the run, or None.
        loss: callable(output, target) -> scalar.
        asks_loss: True if the loss may be probed with made outputs; one that counts its calls may not.
    """

    def __init__(
        self, model: nn.Module, fabric: Any, folder: Path | None, loss: Callable[..., Tensor], *, asks_loss: bool
    ) -> None:
        self._model, self._fabric, self._folder, self._loss = model, fabric, folder, loss
        self._monitor: Monitor | None = None
        self._facts: LossFacts | None = None
        self._asks_loss = asks_loss
        self._holds_strangers = False

    def loss(self, output: Any, target: Any) -> Tensor:
        """The loss itself; at its first call it is also probed, whether it fits the model's outputs."""
        value = self._loss(output, target)
        if self._asks_loss:
            self._asks_loss = False
            answer = output if isinstance(output, torch.Tensor) else getattr(output, "logits", output)
            self._facts = probe_loss(self._loss, answer, target)
        return value

    @contextmanager
    def around(self, module: nn.Module, optimizer: Optimizer, first_step: int) -> Generator[Monitor | None]:
        """The context in which the epochs run; loggers count steps from the beginning of the run, resumed or not."""
        if (scripted := _scripted(module)) is not None:  # watching is the default of `fit`, and no reason to refuse
            sys.stderr.write(f"monitor: {scripted!r} is a scripted module, which takes no hooks: nothing is watched.\n")
            yield None
            return

        def log(numbers: dict[str, float], step: int) -> None:
            if numbers:
                log_figures(self._fabric, numbers, first_step + step)

        own = {id(parameter) for parameter in self._model.parameters()}
        self._holds_strangers = any(id(one) not in own for group in optimizer.param_groups for one in group["params"])
        records = self._folder / "health.jsonl" if self._folder is not None else None
        if records is not None:
            make_folder(records.parent)
        log_to = log if self._fabric.loggers else None
        with _RunMonitor(module, optimizer, log_to, records, first_step) as self._monitor:
            yield self._monitor

    def diagnosis(self, ready: Ready, history: Sequence[Epoch]) -> Diagnosis | None:
        """The findings of the run; None where no epoch was left to run."""
        if self._monitor is None:
            return None
        odd = tuple((epoch.epoch, name, value) for epoch in history for name, value in not_finite(epoch).items())
        evidence = replace(self._monitor.evidence, loss=self._facts, validation=odd)
        if not self._holds_strangers:  # layers below the head, or of a later phase, are none
            evidence = replace(evidence, holds_strangers=False)
        found = judge_loop(evidence)
        if ready.figures is None:
            return found
        others = [f for f in all_of(found) if f.family != "input_scale"]
        is_through = any(f.family == "input_scale" for f in found.findings)
        return diagnosis_of([*others, *_of_inputs(evidence, ready.inputs() if is_through else None)], cause=None)


def _scripted(model: nn.Module) -> str | None:
    named = model.named_modules()
    return next((name for name, part in named if isinstance(part, torch.jit.ScriptModule)), None)


class _RunMonitor(Monitor):
    """A monitor whose records go on in the one file of a run, with steps counted from its beginning."""

    def __init__(
        self, module: nn.Module, optimizer: Optimizer, log: Callable[..., None] | None, records: Path | None,
        first_step: int,
    ) -> None:  # fmt: skip
        super().__init__(module, optimizer, log=log)
        self._open = partial(JsonLines, records, first_step) if records is not None else None


def _of_inputs(evidence: Evidence, inputs: InputFacts | None) -> list[Finding]:
    """The trained part gets features, not inputs in a chosen unit: those are judged."""
    found = input_scale.check(replace(evidence, inputs=inputs))
    shown = {"issue", "tip"}
    return [replace(f, advice=f.advice + _PRETRAINED) if f.outcome in shown else f for f in found]


def tell(diagnosis: Diagnosis) -> None:
    """What was found, where, how it is known and what to do, on standard error."""
    first, *every = str(diagnosis).splitlines()
    lines = [line for line in every if not line.startswith("Could not be evaluated:")]
    if diagnosis.not_judged:  # their reasons are those of any monitor: it does not probe the loss, nor compare weights
        codes = ", ".join(sorted({finding.code for finding in diagnosis.not_judged}))
        lines.append(
            f"Not evaluated while training: {codes}. A checkup evaluates them, or states the reason why it cannot."
        )
    sys.stderr.write("\n        ".join([f"health: {first}", *lines]) + "\n")
    if not diagnosis.is_healthy:
        sys.stderr.write(
            "        frostline.checkup finds the cause by trials on a copy (frostline checkup on the command line); "
            "frostline.heal (--heal) treats it.\n"
        )
