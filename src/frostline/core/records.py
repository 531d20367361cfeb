"""Frozen records in which the pillars speak to each other. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
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
        heal_s: Looking for what keeps the model from learning, and trying treatments, before the epochs.
    """

    split_s: float
    fill_s: float
    epochs_s: float
    total_s: float
    uncached_s: float | None
    heal_s: float = 0.0


@dataclass(frozen=True)
class CacheFigures:
    """What the cache held and saved: samples in the snapshot, computed now, reused, bytes stored, folder.

    `proven` counts the rows that were computed once more, in other company, before anything was stored.
    """

    samples: int
    computed: int
    reused: int
    bytes: int
    path: str
    proven: int = 0


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
        findings: Issues and tips of the monitor, most severe first; empty without one.
        healing: With `monitor="heal"`, what was found before the first epoch, what was tried and what was kept. None
            without it, and where a run is resumed in which nothing had been kept.
        healing_steps: Steps that the model has taken under the kept treatment before the first epoch, beside those of
            the history; 0 if nothing was kept.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_early: bool
    timings: Timings
    cache: CacheFigures | None
    out: Path | None
    findings: tuple[Finding, ...] = ()
    healing: Healing | None = None
    healing_steps: int = 0


@dataclass(frozen=True)
class Change:
    """What a remedy changed in a model, and the way back.

    Attributes:
        layers: Qualified names of the layers that were changed.
        undo: Puts the model back to the bit: modules, parameters, buffers and optimizer state.
        notes: What could not be changed, and where (`"blocks.0.mlp: calls F.relu, which cannot be swapped"`).
    """

    layers: tuple[str, ...]
    undo: Callable[[], None]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{len(self.layers)} layers changed", *self.notes])


@dataclass(frozen=True)
class Finding:
    """What one rule says about one layer, or about the whole run.

    Attributes:
        code: Stable name of the rule, `FL101`.
        title: The finding in a few words, `"vanishing gradients"`.
        family: The sickness it belongs to, `"vanishing"`.
        layer: Qualified name of the layer, or None where the whole run is meant.
        outcome: `"issue"`, `"tip"`, `"passed"` or `"not applicable"`.
        measured: The number that was judged, in the rule's own unit; None where nothing was measured.
        limit: The threshold it was compared with.
        why: The evidence in one sentence, or why the rule does not apply.
        advice: What to do now.
    """

    code: str
    title: str
    family: str
    layer: str | None
    outcome: str
    measured: float | None
    limit: float | None
    why: str
    advice: str

    def __str__(self) -> str:
        place = f" in {self.layer}" if self.layer else ""
        return f"{self.code} {self.outcome}: {self.title}{place}\n  {self.why}\n  Do: {self.advice}"


@dataclass(frozen=True)
class Diagnosis:
    """What a checkup found.

    Attributes:
        findings: Issues and tips, most severe first.
        cause: The family whose undoing made the symptoms go, or None if no single one did.
        candidates: Families that fit what was seen, likeliest first; `cause` is the first where it is known.
        passed: Findings that passed or do not apply, for the record.
    """

    findings: tuple[Finding, ...]
    cause: str | None
    candidates: tuple[str, ...]
    passed: tuple[Finding, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """True if no rule found an issue."""
        return not any(finding.outcome == "issue" for finding in self.findings)

    def __str__(self) -> str:
        judged = sum(finding.outcome == "passed" for finding in self.passed)
        if not self.findings and self.passed and not judged:
            return "\n".join(["Nothing could be judged:", *dict.fromkeys(finding.why for finding in self.passed)])
        if not self.findings:
            return f"Healthy: {judged} rules passed, {len(self.passed) - judged} do not apply."
        cause = (
            f"Cause: {self.cause}" if self.cause else f"Causes that fit: {', '.join(self.candidates) or 'none known'}"
        )
        if self.cause is None and self.is_healthy:
            cause = "No issue: training may be fine."
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.code, finding.outcome), []).append(finding)
        return "\n".join([*(_told(first, others) for first, *others in groups.values()), cause])


def _told(first: Finding, others: list[Finding], most: int = 6) -> str:
    """A finding, and the other layers in which the same was found."""
    layers = [finding.layer for finding in others if finding.layer]
    if not layers:
        return str(first)
    more = f" and {len(layers) - most} more" if len(layers) > most else ""
    head, _, advice = str(first).rpartition("\n")
    return f"{head}\n  Also in {', '.join(layers[:most])}{more}.\n{advice}"


@dataclass(frozen=True)
class Treatment:
    """One treatment that was tried from the same snapshot on the same batches.

    Attributes:
        name: What was done, `"swap_activations: ReLU to ELU"`.
        family: The sickness it treats.
        kept: True if it was accepted; everything else was rolled back to the bit.
        loss: Held-out loss after the trial; NaN if it was not finite.
        issues: Codes of the issues that were left.
        why: Why it was kept or rolled back, with the numbers.
    """

    name: str
    family: str
    kept: bool
    loss: float
    issues: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Healing:
    """What `heal` did; the model and the optimizer are the caller's own, changed in place or restored.

    Attributes:
        accepted: True if a treatment was kept; False where nothing was changed.
        treatments: All that were tried, in order.
        before: The diagnosis without treatment.
        after: The diagnosis of the model as it is now.
        loss_before: Held-out loss without treatment, when the first treatment was kept, or the looking on ended.
        loss_after: Held-out loss of the model as it is now, after all batches.
    """

    accepted: bool
    treatments: tuple[Treatment, ...]
    before: Diagnosis
    after: Diagnosis
    loss_before: float
    loss_after: float
