"""Frozen records in which the pillars speak to each other. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import torch


@dataclass(frozen=True)
class FrontierTensor:
    """One tensor that crosses the frost line, from the frozen part to the trainable one.

    Attributes:
        name: The module or call that produced it (`layer3`, `layer2.add_1`), or `input.KEY` for a model
            input that reaches the trainable part untouched.
        shape: Its shape without the batch axis; of a shared tensor, its whole shape.
        dtype: Its dtype as the frozen part produces it.
        bytes_per_sample: What storing it costs for each sample; 0 if shared.
        shared: True if it is the same, to the bit, for every batch, and is stored once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes_per_sample: int
    shared: bool

    @property
    def is_input(self) -> bool:
        """True for a model input: kept with the snapshot, beside the targets, not with the features."""
        return self.name.startswith("input.")


@dataclass(frozen=True)
class FreezeSummary:
    """What `freeze` or `thaw` changed, and how much of the model is frozen now.

    Attributes:
        layers: Qualified names of the modules whose state changed.
        parameters: Qualified names of the parameters whose state changed.
        num_frozen: Elements in all frozen parameters of the model.
        num_parameters: Elements in all parameters of the model.
    """

    layers: tuple[str, ...]
    parameters: tuple[str, ...]
    num_frozen: int
    num_parameters: int

    @property
    def share_frozen(self) -> float:
        """Share of the model's parameter elements that are frozen, 0 to 1."""
        return self.num_frozen / self.num_parameters if self.num_parameters else 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.layers)} layers, {len(self.parameters)} parameters changed; "
            f"{self.num_frozen:,} of {self.num_parameters:,} elements frozen ({self.share_frozen:.1%})"
        )


@dataclass(frozen=True)
class ReuseSummary:
    """What `reuse` did with each tensor of the range.

    Attributes:
        copied: Names whose values now come from the source.
        new: Names in the target that the source does not have: they keep their initial values.
        skipped: Names that did not fit, each with the reason (`"fc.weight: (10, 512) -> (5, 512)"`).
    """

    copied: tuple[str, ...]
    new: tuple[str, ...]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.copied)} tensors copied, {len(self.new)} new, {len(self.skipped)} skipped"


@dataclass(frozen=True)
class Epoch:
    """One line of a training history. Losses are means over samples; `elapsed_s` is this epoch's own time."""

    epoch: int
    train_loss: float
    val_loss: float | None
    val_metric: float | None
    lr: float
    elapsed_s: float


@dataclass(frozen=True)
class Timings:
    """Seconds spent, and what the uncached loop would have cost.

    Attributes:
        split_s: Recording and verifying the split.
        fill_s: The frozen pass over samples that were not cached yet.
        epochs_s: All epochs, validation included.
        total_s: The whole call.
        uncached_s: An estimate of `total_s` without a cache, measured on a few batches; None if not cached.
    """

    split_s: float
    fill_s: float
    epochs_s: float
    total_s: float
    uncached_s: float | None


@dataclass(frozen=True)
class CacheFigures:
    """What the cache held and saved: samples in the snapshot, computed now, reused, bytes stored, folder."""

    samples: int
    computed: int
    reused: int
    bytes: int
    path: str


@dataclass(frozen=True)
class FitResult:
    """What `fit` did. The trained model is the caller's own `model`.

    Attributes:
        history: One record per epoch, in order; a resumed run includes the epochs before the interruption.
        best_epoch: The epoch whose weights the model now has (the last one without validation data).
        stopped_early: True if `patience` ran out.
        timings: Where the time went.
        cache: Cache figures of the training data, or None if nothing was cached.
        out: Folder of checkpoints and logs, or None.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_early: bool
    timings: Timings
    cache: CacheFigures | None
    out: Path | None
