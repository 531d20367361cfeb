"""What the commands show: a record for `--json`, and the same as text for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frostline.core.records import Diagnosis, FitResult
    from frostline.core.storage_records import StoragePlan
    from frostline.data.counts import SampleCounts
    from frostline.splitting import Explanation


@dataclass(frozen=True)
class FitReport:
    """What `frostline fit` shows."""

    model: str
    weights: str
    classes: tuple[str, ...]
    result: FitResult
    reused: str
    samples: SampleCounts
    class_weights: dict[str, float] | None = None

    def text(self) -> str:
        """For people."""
        last, timings = self.result.history[self.result.best_epoch - 1], self.result.timings
        lines = [f"Data:     {self.samples}"]
        if self.class_weights is not None:
            weights = ", ".join(f"{name} {weight:.3g}" for name, weight in self.class_weights.items())
            lines.append(f"          weights of the classes in the loss: {weights}")
        lines += [f"Reused:   {self.reused}",
                 f"Trained:  {_epochs(len(self.result.history))}; loss {last.train_loss:.4f} in epoch {last.epoch}, "
                 "which is kept"]  # fmt: skip
        if last.val_metrics:
            scores = ", ".join(f"{name} {score:.4f}" for name, score in last.val_metrics.items())
            lines.append(f"Scores:   {scores} on validation data, epoch {last.epoch}")
        lines += [f"          {phase}" for phase in self.result.phases if len(self.result.phases) > 1]
        if self.result.cache is not None:
            cache = self.result.cache
            lines.append(f"Cache:    {cache.rows_text()}, {cache.bytes / 1e6:.1f} MB")
        if (healing := self.result.healing) is not None:
            kept = kept_treatments(self.result)
            lines.append(f"Healed:   {'; '.join(kept) or 'nothing to treat was found, nothing was changed'}")
            lines += [f"          {t.why}" for t in healing.treatments if t.kept and healing.accepted]
        lines.append(f"Health:   {_health(self.result)}")
        uncached = f"; uncached about {timings.uncached_s:.1f} s (estimate)" if timings.uncached_s else ""
        lines.append(f"Time:     {timings.total_s:.1f} s{uncached}")
        return "\n".join([*lines, f"Saved:    {self.weights}"])


@dataclass(frozen=True)
class InspectReport:
    """What `frostline inspect` shows."""

    layers: tuple[tuple[str, str, str, int], ...]
    explanation: Explanation
    samples: int
    price: str
    reused: str
    storage: StoragePlan


@dataclass(frozen=True)
class CheckupReport:
    """What `frostline checkup` shows."""

    diagnosis: Diagnosis
    batches: int
    elapsed_s: float
    reused: str

    def text(self) -> str:
        """For people: what, how it is known, what to do, what it costs."""
        lines = [
            f"Reused:   {self.reused}",
            str(self.diagnosis),
            f"Looked at {self.batches} batches on a copy, in {self.elapsed_s:.1f} s.",
        ]
        if self.diagnosis.cause is not None:
            lines.append("The advice costs one new training; each proof above is a training on these batches.")
        return "\n".join(lines)


def _health(result: FitResult) -> str:
    """The issues by name; measurements and advice are printed when training ends, and are in the JSON."""
    issues = [finding for finding in result.findings if finding.outcome == "issue"]
    places = [f"{f.code} {f.title}{f' in {f.layer}' if f.layer else ''}" for f in issues]
    tips = len(result.findings) - len(issues)
    found = "; ".join(places) or "no issue"
    return f"{found}; {tips} tip{'s' if tips > 1 else ''}" if tips else found


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def kept_treatments(result: FitResult) -> list[str]:
    """Names of the treatments that a healed network keeps."""
    healing = result.healing
    if healing is None or not healing.accepted:
        return []
    return [treatment.name for treatment in healing.treatments if treatment.kept]
