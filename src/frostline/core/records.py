"""Frozen records in which the pillars speak to each other. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.core.summaries import diagnosis_text, fit_text, healing_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from frostline.core.storage_records import StoragePlan


@dataclass(frozen=True)
class FrontierTensor:
    """One tensor that crosses the frost line, from the frozen part to the trainable one.

    Attributes:
        name: The module or call that produced it (`layer3`, `layer2.add_1`), or `input.KEY` for a model
            input that reaches the trainable part untouched.
        shape: Its shape without the batch axis; of a shared tensor, its whole shape. An axis that has another size for
            other samples is -1.
        dtype: Its dtype as the frozen part produces it.
        bytes_per_sample: What storing it costs for each sample; 0 if shared. With an axis of -1, what it costs at the
            length that was recorded.
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
        return self.name.startswith("input.") and not self.is_varying

    @property
    def is_varying(self) -> bool:
        """True if samples differ in size: their rows are stored at their own size, model inputs among them."""
        return -1 in self.shape


@dataclass(frozen=True)
class FreezeSummary:
    """What `freeze` or `thaw` changed, and how much of the model is frozen now.

    Attributes:
        layers: Qualified names of the modules whose state changed.
        parameters: Qualified names of the parameters whose state changed.
        num_frozen: Elements in all frozen parameters of the model.
        num_parameters: Elements in all parameters of the model.
        notes: What may not have been meant: layers that run later, parameters that were frozen before.
    """

    layers: tuple[str, ...]
    parameters: tuple[str, ...]
    num_frozen: int
    num_parameters: int
    notes: tuple[str, ...] = ()

    @property
    def share_frozen(self) -> float:
        """Share of the model's parameter elements that are frozen, 0 to 1."""
        return self.num_frozen / self.num_parameters if self.num_parameters else 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.layers)} layers, {len(self.parameters)} parameters changed; "
            f"{self.num_frozen:,} of {self.num_parameters:,} elements frozen ({self.share_frozen:.1%})"
            + "".join(f"\nnote: {note}" for note in self.notes)
        )


@dataclass(frozen=True)
class ReuseSummary:
    """What `reuse` did with each tensor of the range.

    Attributes:
        copied: Names whose values now come from the source.
        new: Names in the target that the source does not have: they keep their initial values.
        skipped: Names that did not fit, each with the reason (`"fc.weight: (10, 512) -> (5, 512)"`).
        notes: What was taken off the source to find the tensors: wrappers, prefixes.
    """

    copied: tuple[str, ...]
    new: tuple[str, ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.copied)} tensors copied, {len(self.new)} new, {len(self.skipped)} skipped"


@dataclass(frozen=True)
class Epoch:
    """One line of a training history, counted from 1. Losses are means over samples; `elapsed_s` is its own time.

    `val_metric` chooses the best epoch; of several metrics it is the first, and `val_metrics` holds all by name.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    val_metric: float | None
    lr: float
    elapsed_s: float
    val_metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class Timings:
    """Seconds spent, and what the uncached loop would have cost.

    Attributes:
        split_s: Recording and verifying the split.
        fill_s: The frozen pass over samples that were not cached yet.
        epochs_s: All epochs, validation included.
        total_s: The whole call, without checks of its arguments and the import of Lightning Fabric (3 s, once in a
            process).
        uncached_s: An estimate of `total_s` without a cache, from times of the fill; None if nothing is cached.
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

    `proven` counts the rows that were computed once more, in other company, before anything was stored. `row_s` is the
    time of reading a sample and running the frozen part for it, in seconds, as measured when rows were computed last.
    With `views`, each sample has so many rows: `computed` and `reused` count rows. `storage` says how features lie on
    the disk, `error` what rounding has changed at most, relative to the largest value of a row; `losses` are those of
    the head on the first samples, over exact and over stored features, where `fit` has stored rounded ones.
    """

    samples: int
    computed: int
    reused: int
    bytes: int
    path: str
    proven: int = 0
    row_s: float = 0.0
    views: int = 1
    storage: str = "exact"
    error: float = 0.0
    losses: tuple[float, float] | None = None

    def rows_text(self) -> str:
        """What was computed and reused, for people."""
        what = "samples" if self.views == 1 else f"rows of {self.views} views"
        return f"{self.computed} {what} computed, {self.reused} reused"


@dataclass(frozen=True)
class PhaseFigures:
    """One phase of a run: epochs with one frost line.

    Attributes:
        number: From 1.
        first_epoch: Counted from 1.
        last_epoch: Counted from 1.
        change: What its beginning did to the line; "" in the first phase.
        cache: Cache figures of the training data at this line, or None if nothing was cached.
    """

    number: int
    first_epoch: int
    last_epoch: int
    change: str
    cache: CacheFigures | None

    def __str__(self) -> str:
        epochs = f"epochs {self.first_epoch} to {self.last_epoch}"
        rows = "not cached"
        if self.cache is not None:
            rows = self.cache.rows_text()
        return f"phase {self.number}, {epochs}: {self.change or 'the line as it was'}; {rows}"


@dataclass(frozen=True, repr=False)
class FitResult:
    """What `fit` did. The trained model is the caller's own `model`.

    Attributes:
        history: One record per epoch, in order; a resumed run includes the epochs before the interruption.
        best_epoch: The epoch whose weights the model now has (the last one without validation data), counted from 1.
        stopped_early: True if `patience` ran out.
        timings: Where the time went.
        cache: Cache figures of the training data, or None if nothing was cached.
        out: Folder of checkpoints and logs, or None.
        findings: Issues and tips of the monitor, most severe first; empty without one.
        healing: With `monitor="heal"` (deprecated), what `heal` returned; else None.
        healing_steps: Steps that the model has taken under the kept treatment before the first epoch, beside those of
            the history; 0 if nothing was kept.
        phases: One record per phase that ran in this call; a run whose frost line stays where it is has one.
        plan: With `cache="auto"`, what the run could store and what each alternative costs; None otherwise, and where
            an earlier start of the same run has decided.
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
    phases: tuple[PhaseFigures, ...] = ()
    plan: StoragePlan | None = None

    def __str__(self) -> str:
        return fit_text(self)

    __repr__ = __str__


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


@dataclass(frozen=True, repr=False)
class Finding:
    """The result of one rule for one layer, or for the whole run.

    Attributes:
        code: Stable name of the rule, `FL101`.
        title: The finding in a few words, `"vanishing gradients"`.
        family: The sickness it belongs to, `"vanishing"`.
        layer: Qualified name of the layer, or None where the whole run is meant.
        outcome: `"issue"`, `"tip"`, `"passed"`, `"not applicable"` (the network has nothing of the kind) or
            `"not judged"` (it could not be seen).
        measured: The number that was judged, in the rule's own unit; None where nothing was measured.
        limit: The threshold it was compared with; of a tip, where the rule has issues, that of an issue.
        why: The evidence in one sentence, or why the rule does not apply or could not judge.
        advice: What to do now.
        layer_type: Type and sizes of the layer, `"Linear, 784 to 64"`; "" where no layer is meant.
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
    layer_type: str = ""

    @property
    def place(self) -> str:
        """Where it was found, `"layer '0' (Linear, 784 to 64)"`; "" where the whole run is meant."""
        if not self.layer:
            return ""
        return f"layer {self.layer!r} ({self.layer_type})" if self.layer_type else self.layer

    @property
    def headline(self) -> str:
        """Code, outcome, title and place in one line."""
        place = f" in {self.place}" if self.layer else ""
        return f"{self.code} {self.outcome}: {self.title}{place}"

    def __str__(self) -> str:
        return f"{self.headline}\n  {self.why}\n  Do: {self.advice}"

    def __repr__(self) -> str:
        return f"<{self.headline}>"


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What a checkup found.

    Attributes:
        findings: Issues and tips, most severe first.
        cause: The family whose undoing made the symptoms go, or None if no single one did.
        candidates: Families that fit what was seen, likeliest first; `cause` is the first where it is known.
        passed: Findings that passed or do not apply, for the record.
        not_judged: Rules that could not be asked, each with the reason in `why`. While there are any, a diagnosis
            without findings does not mean that the network is healthy.
    """

    findings: tuple[Finding, ...]
    cause: str | None
    candidates: tuple[str, ...]
    passed: tuple[Finding, ...] = ()
    not_judged: tuple[Finding, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """True if no rule that could be asked found an issue; `not_judged` holds those that could not."""
        return not any(finding.outcome == "issue" for finding in self.findings)

    def __str__(self) -> str:
        return diagnosis_text(self)

    __repr__ = __str__  # the fields of a diagnosis are thousands of characters


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"<{self.name} ({self.family}): {self.why}>"


@dataclass(frozen=True, repr=False)
class Healing:
    """What `heal` did; the model and the optimizer are the caller's own, changed in place or restored.

    Attributes:
        accepted: True if a treatment was kept, and the model as it is now has finite steps, is better than
            the constant-prediction baseline on samples that no decision used, and is as good as it was at its best
            mark.
        treatments: All that were tried, in order.
        before: The diagnosis without treatment.
        after: The diagnosis of the model as it is now.
        loss_before: Loss without treatment, when the first treatment was kept, or the looking on ended; on samples
            that no decision used.
        loss_after: The same of the model as it is now.
        verdict: The judgement of the state in which the training ended, in a sentence.
    """

    accepted: bool
    treatments: tuple[Treatment, ...]
    before: Diagnosis
    after: Diagnosis
    loss_before: float
    loss_after: float
    verdict: str = ""

    def __str__(self) -> str:
        return healing_text(self)

    __repr__ = __str__
