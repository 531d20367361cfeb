"""What the demo measured, and how it reads."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from frostline.core.records import FitResult
from frostline.demo.foreign_weights import FILE, PortAct
from frostline.demo.sick_network_tables import HealthAct

TOLERANCE = 1e-4


@dataclass(frozen=True)
class DataRow:
    """Accuracy on held-out digits, one entry per seed."""

    per_class: int | None
    images: int
    scratch: tuple[float, ...]
    reused: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Mean accuracy with reused layers, minus that from scratch."""
        return mean(self.reused) - mean(self.scratch)


@dataclass(frozen=True)
class TimeRow:
    """One way to train on all images."""

    name: str
    accuracy: float
    epoch_s: float
    split_s: float
    fill_s: float
    total_s: float
    losses: tuple[float, ...]

    @classmethod
    def of(cls, name: str, accuracy: float, result: FitResult) -> TimeRow:
        """From what `fit` measured; the total is split, fill and epochs, without set-up that all share."""
        timings = result.timings
        total = timings.split_s + timings.fill_s + timings.epochs_s
        losses = tuple(epoch.train_loss for epoch in result.history)
        epoch_s = timings.epochs_s / len(result.history)
        return cls(name, accuracy, epoch_s, timings.split_s, timings.fill_s, total, losses)


@dataclass(frozen=True)
class ShareRow:
    """Seconds of an epoch without and with a cache, where so many convolutions are frozen."""

    convolutions: int
    frozen_share: float
    uncached_s: float
    cached_s: float


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo shows."""

    health: HealthAct
    port: PortAct
    by_data: tuple[DataRow, ...]
    by_time: tuple[TimeRow, ...]
    by_share: tuple[ShareRow, ...]
    largest_difference: float
    total_s: float
    out: str
    pretrained: str
    model: str

    def as_json(self) -> dict[str, Any]:
        """As one JSON object; numbers that are not finite are null."""
        return _plain(asdict(self))

    def text(self) -> str:
        """All acts, and what to run next."""
        lines = [self.health.text(), "", "", "2. A sound network, reused for another task", "",
                 "Scans put anywhere in a field of 32x32. Accuracy on held-out digits 5-9 (means of three seeds)",
                 f"  {'images per class':<18}{'from scratch':>14}{'reused':>10}{'gain':>10}"]  # fmt: skip
        for row in self.by_data:
            count = f"{row.per_class or 'all'} ({row.images} images)"
            lines.append(f"  {count:<18}{mean(row.scratch):>14.3f}{mean(row.reused):>10.3f}{row.gain:>+10.3f}")
        if self.by_data[-1].gain < 0:
            lines.append("  With that many images the layers can be trained on the task itself: freeze fewer of them.")
        lines += ["", "All images, all convolutions frozen",
                  f"  {'':<26}{'accuracy':>9}{'s/epoch':>9}{'split s':>9}{'fill s':>8}{'total s':>9}"
                  f"{'speed-up':>10}"]  # fmt: skip
        uncached = self.by_time[1].total_s
        for row in self.by_time:
            lines.append(
                f"  {row.name:<26}{row.accuracy:>9.3f}{row.epoch_s:>9.3f}{row.split_s:>9.2f}{row.fill_s:>8.2f}"
                f"{row.total_s:>9.2f}{uncached / row.total_s:>9.1f}x"
            )
        verdict = "the same" if self.largest_difference <= TOLERANCE else "NOT THE SAME"
        lines += ["", f"Same seed, uncached against cached: the trained weights are {verdict} (largest difference "
                  f"{self.largest_difference:.1e}, allowed {TOLERANCE:.0e}).", "",
                  "The higher the frost line, the more the cache saves (seconds of an epoch)",
                  f"  {'frozen':<18}{'of the forward time':>20}{'uncached':>10}{'cached':>8}{'speed-up':>10}",
                  *(f"  {f'{row.convolutions} convolutions':<18}{row.frozen_share:>20.0%}{row.uncached_s:>10.3f}"
                    f"{row.cached_s:>8.3f}{row.uncached_s / row.cached_s:>9.1f}x" for row in self.by_share),
                  "", "", self.port.text(), "", f"Done in {self.total_s:.0f} s. Files are in {self.out}/. Next:",
                  f"  frostline fit {self.out}/digits-5-9.npz --model frostline.demo.demo:build "
                  f"--weights {self.pretrained} --val-share 0.2",
                  f"  frostline inspect {self.out}/digits-5-9.npz --model frostline.demo.demo:build",
                  f"  frostline cache ls --cache {self.out}/run/cache",
                  f"  frostline checkup frostline.demo.sick_network:build {self.out}/digits-5-9.npz",
                  f"  frostline port {FILE} --to frostline.demo.foreign_weights:build "
                  f"--out {self.out}/ported.safetensors",
                  f"  frostline fit {self.out}/digits-5-9.npz --model frostline.demo.foreign_weights:build "
                  f"--weights {FILE} --val-share 0.2 --out {self.out}/of-keras"]  # fmt: skip
        return "\n".join(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
