"""The description of a split in words and numbers, as `Split.explain` returns it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from frostline.core.errors import FOREIGN, FrostlineError
from frostline.core.restore import kept_buffers, kept_modes
from frostline.core.units import size_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from frostline.core.records import FrontierTensor
    from frostline.core.storage_records import StoragePlan
    from frostline.splitting.proof.verification import Verification
    from frostline.splitting.recording.frost_line import FrostLine


@dataclass(frozen=True)
class Explanation:
    """The frost line of a split.

    Attributes:
        frozen: Qualified names of the outermost modules that are wholly frozen.
        trainable: Qualified names of the outermost modules that are wholly trainable.
        num_frozen: Elements in frozen parameters.
        num_trainable: Elements in trainable parameters.
        frontier: What crosses the line.
        bytes_per_sample: What is stored for each sample.
        frozen_s: Seconds of one frozen pass over the recorded samples, measured.
        head_s: Seconds of one forward pass of the head over the same samples, measured.
        samples: How many samples that were.
        notes: Noise that was turned off on the frozen side, guards, shared tensors.
        verification: The proof.
        measure: Gives `storage`; None where nothing can be measured.
    """

    frozen: tuple[str, ...]
    trainable: tuple[str, ...]
    num_frozen: int
    num_trainable: int
    frontier: tuple[FrontierTensor, ...]
    bytes_per_sample: int
    frozen_s: float
    head_s: float
    samples: int
    notes: tuple[str, ...]
    verification: Verification
    measure: Callable[[], StoragePlan] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def storage(self) -> StoragePlan | None:
        """What to store and what to compute again, with the alternatives; measured when it is first asked for.

        None where nothing was measured, or a training step of the model fails.
        """
        with suppress(FrostlineError, *FOREIGN):
            return self.measure() if self.measure is not None else None
        return None

    def __str__(self) -> str:
        is_varying = any(tensor.is_varying for tensor in self.frontier)
        lines = [
            f"Frozen:    {_some(self.frozen)} ({self.num_frozen:,} parameters)",
            f"Trainable: {_some(self.trainable)} ({self.num_trainable:,} parameters)",
            f"Stored:    {size_text(self.bytes_per_sample)} per sample"
            + (" of the length that was recorded; rows are stored at their own length" if is_varying else ""),
        ]
        for tensor in self.frontier:
            kept = "once" if tensor.shared else "with the targets" if tensor.is_input else "per sample"
            shape = str(tensor.shape).replace("-1", "length")
            lines.append(f"  {tensor.name}: {shape} {str(tensor.dtype).removeprefix('torch.')}, {kept}")
        share = self.frozen_s / (self.frozen_s + self.head_s) if self.frozen_s + self.head_s else 0.0
        lines.append(
            f"Cost:      frozen part {1e3 * self.frozen_s / self.samples:.2f} ms per sample, "
            f"head {1e3 * self.head_s / self.samples:.2f} ms ({share:.0%} of the forward pass is frozen; "
            f"measured on {self.samples} samples)"
        )
        lines += [str(self.storage)] if self.storage is not None else []
        lines.append(f"Proof:     {self.verification}")
        return "\n".join([*lines, *(f"Note:      {note}" for note in self.notes)])


def seconds_of(head: nn.Module, features: tuple[Tensor, ...], model: nn.Module) -> float:
    """Seconds of one forward pass of the head of a model."""
    started = time.perf_counter()
    with kept_modes(head), kept_buffers(model), torch.no_grad():
        head.eval()
        head(*features)
    return time.perf_counter() - started


def explain(
    frost_line: FrostLine, frontier: tuple[FrontierTensor, ...], seconds: tuple[float, float], samples: int,
    verification: Verification, notes: tuple[str, ...],
) -> Explanation:  # fmt: skip
    """Describe a split whose frozen part and head took these seconds for a few samples."""
    model = frost_line.model
    frozen = [parameter.numel() for parameter in model.parameters() if not parameter.requires_grad]
    trainable = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    return Explanation(
        frozen=_outermost(model, frost_line.is_frozen),
        trainable=_outermost(model, frost_line.is_trainable),
        num_frozen=sum(frozen),
        num_trainable=sum(trainable),
        frontier=frontier,
        bytes_per_sample=sum(tensor.bytes_per_sample for tensor in frontier),
        frozen_s=seconds[0],
        head_s=seconds[1],
        samples=samples,
        notes=notes,
        verification=verification,
    )


def _outermost(model: nn.Module, holds: Callable[[nn.Module], bool], prefix: str = "") -> tuple[str, ...]:
    found: list[str] = []
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        found += [path] if holds(child) else _outermost(child, holds, f"{path}.")
    return tuple(found)


def _some(names: tuple[str, ...], most: int = 6) -> str:
    shown = ", ".join(names[:most]) or "nothing whole"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
