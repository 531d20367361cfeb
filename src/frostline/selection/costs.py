"""What training above each line costs: one real training step, with the moments at which it passes the lines."""

from __future__ import annotations

import copy
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from frostline.core.inputs import batch_size, call_with_model, map_tensors
from frostline.core.inputs import batch_size as size_of
from frostline.core.restore import kept_generators
from frostline.core.timing import wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.selection.candidates import Line

_SAMPLES = 16  # of the timed step: enough to fill the kernels of a processor
_GATHERED = 32
_STEPS = 3  # timed after one that warms up; of each moment the quickest counts, for others may use the machine too


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one training step per sample, for one line.

    Attributes:
        frozen_s: Forward, below the line.
        above_s: Forward above it, backward down to it, and the update of what is above it.
        gather_s: Gathering what crosses the line from memory, as a cache does.
    """

    frozen_s: float
    above_s: float
    gather_s: float


def step_times(model: nn.Module, lines: Sequence[Line], inputs: Any) -> dict[str | None, StepTimes] | str:
    """Times by line, of steps on a copy of the model in training mode, with everything trainable.

    Args:
        model: The model; it is copied.
        lines: Lines with a layer above them.
        inputs: A few samples; they are repeated to a batch.

    Returns:
        The times by `Line.through`; or a text that says why they could not be measured.
    """
    try:
        copied = copy.deepcopy(model)
    except Exception as error:  # whatever a module of the caller holds
        return f"seconds were not measured: the model cannot be copied ({type(error).__name__})"
    size = batch_size(inputs)
    repeats = -(-_SAMPLES // size)
    batch = map_tensors(inputs, lambda x: torch.cat([x] * repeats) if x.dim() and x.shape[0] == size else x)
    for parameter in copied.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(copied.parameters(), lr=0.0)
    with kept_generators(), torch.enable_grad():
        copied.train()
        try:
            runs = [_one_step(copied, optimizer, lines, batch) for _ in range(_STEPS + 1)][1:]
        except RuntimeError as error:
            return f"seconds were not measured: a training step failed ({str(error).splitlines()[0]})"
    return _combined(lines, runs, size_of(batch))


@dataclass
class _Run:
    started: float
    passed: dict[str | None, float]
    forward_end: float
    returned: dict[str | None, float]
    backward_end: float
    update_s: float


def _one_step(model: nn.Module, optimizer: torch.optim.Optimizer, lines: Sequence[Line], batch: Any) -> _Run:
    passed: dict[str | None, float] = {}
    returned: dict[str | None, float] = {}
    with ExitStack() as stack:
        for line in lines:
            if line.tap is None:
                continue

            def note(_: Any, args: Any, kwargs: Any, line: Line = line) -> None:
                if line.through in passed:
                    return
                passed[line.through] = _now()
                given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
                value = given[line.argument]
                if value.requires_grad:
                    value.register_hook(lambda _: returned.__setitem__(line.through, _now()))

            stack.callback(model.get_submodule(line.tap).register_forward_pre_hook(note, with_kwargs=True).remove)
        started = _now()
        output = call_with_model(model, batch)
        floats = [leaf for leaf in tree_leaves(_parts(output)) if isinstance(leaf, Tensor) and leaf.requires_grad]
        forward_end = _now()
        torch.stack([tensor.float().square().mean() for tensor in floats]).sum().backward()
        backward_end = _now()
        optimizer.step()
        update_s = _now() - backward_end
        optimizer.zero_grad()
    return _Run(started, passed, forward_end, returned, backward_end, update_s)


def _parts(output: Any) -> Any:
    """What an output holds: those of transformers are mappings, others keep tensors in attributes."""
    return output if isinstance(output, (Tensor, tuple, list, dict)) else vars(output)


def _combined(lines: Sequence[Line], runs: Sequence[_Run], count: int) -> dict[str | None, StepTimes]:
    most = max((line.num_trainable for line in lines), default=1) or 1
    update = min(run.update_s for run in runs)
    found: dict[str | None, StepTimes] = {}
    for line in lines:
        key = line.through
        if line.tap is not None and any(key not in run.passed for run in runs):
            continue
        below = min(run.passed[key] - run.started for run in runs) if line.tap is not None else 0.0
        above = min(run.forward_end - run.passed.get(key, run.started) for run in runs)
        back = min(run.returned.get(key, run.backward_end) - run.forward_end for run in runs)
        share = update * line.num_trainable / most
        found[key] = StepTimes(max(below, 0.0) / count, (above + back + share) / count,
                               _gather_s(line.bytes_per_sample) if line.through is not None else 0.0)  # fmt: skip
    return found


def _gather_s(row_bytes: int) -> float:
    """Seconds to gather a row of so many bytes at random, the quickest of a few times."""
    rows = torch.zeros(_GATHERED, max(1, row_bytes), dtype=torch.uint8, device="cpu")
    order = torch.randperm(_GATHERED, generator=torch.Generator().manual_seed(0), device="cpu")
    times: list[float] = []
    for _ in range(_STEPS + 1):
        started = time.perf_counter()
        rows.index_select(0, order)
        times.append(time.perf_counter() - started)
    return min(times) / _GATHERED


def _now() -> float:
    wait()
    return time.perf_counter()
