"""All scores of one line, and what it costs, as a row of the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.core.selection_records import DepthRow
from frostline.selection.scores import (
    Features,
    effective_rank,
    hscore,
    logme,
    neighbours,
    probe,
    reaches,
    regularized_hscore,
)
from frostline.selection.taps import ENERGY, INPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.selection.candidates import Line
    from frostline.selection.costs import StepTimes
    from frostline.selection.scores import Reach, Scored
    from frostline.selection.taps import Taps
    from frostline.selection.targets import Targets

_SAME = "the features are the same for all samples"


def scored_lines(
    lines: Sequence[Line], taps: Taps, columns: Mapping[str, NDArray[Any]], targets: Targets
) -> tuple[list[DepthRow], dict[str, Scored]]:
    """The rows of all lines, from the bottom to the top, and the probe of each by name; `(inputs)` is the bottom's.

    Args:
        lines: From the bottom to the top.
        taps: What the columns are.
        columns: (N, D) features by name of the tap.
        targets: Targets of the N samples.
    """
    rows: list[DepthRow] = []
    probes: dict[str, Scored] = {}
    usable: list[Features | None] = []
    for line in lines:
        features = features_at(line, taps, columns)
        row, found = scored_line(line, features, taps, columns, targets)
        rows.append(row)
        usable.append(features if found is not None and not row.why_not else None)
        if found is not None:
            probes[row.through or INPUTS] = found
    return with_reach(rows, reaches(usable, targets)), probes


def features_at(line: Line, taps: Taps, columns: Mapping[str, NDArray[Any]]) -> Features | None:
    """The features at a line; those at the bottom are the inputs."""
    name = INPUTS if line.through is None else line.through
    if name not in columns:
        return None
    return Features(columns[name], taps.num_mean.get(name) or columns[name].shape[1])


def with_reach(rows: Sequence[DepthRow], found: Sequence[Reach | None]) -> list[DepthRow]:
    """The rows, with what they reach, and the standard error of the difference from the line that reaches most."""
    best = max((reach for reach in found if reach is not None), key=lambda reach: reach.value, default=None)
    if best is None:
        return list(rows)
    return [
        row if reach is None else replace(row, reachable=reach.value, reachable_error=reach.behind(best)[1])
        for row, reach in zip(rows, found, strict=True)
    ]


def scored_line(
    line: Line, features: Features | None, taps: Taps, columns: Mapping[str, NDArray[Any]], targets: Targets
) -> tuple[DepthRow, Scored | None]:
    """The row of a line, and the probe it rests on.

    Args:
        line: The line; the one at the bottom is scored by the inputs.
        features: Those at the line.
        taps: What the columns are.
        columns: (N, D) features by name of the tap.
        targets: Targets of the N samples.
    """
    row = DepthRow(
        line.through, num_trainable=line.num_trainable, bytes_per_sample=line.bytes_per_sample, why_not=line.why_not
    )
    if features is None:
        return row, None
    if not features.varies:
        return replace(row, why_not=row.why_not or ("" if line.through is None else _SAME)), None
    found, score, regular = probe(features, targets), hscore(features, targets), regularized_hscore(features, targets)
    below = taps.norms_below(line)
    energies = columns[ENERGY][:, below].mean(0) if below else None
    row = replace(
        row, probe=found.value, probe_error=found.error, knn=neighbours(features, targets).value,
        logme=logme(features, targets).value, hscore=score.value if score else None,
        regularized_hscore=regular.value if regular else None, effective_rank=effective_rank(features, targets).value,
        energy=float(np.exp(np.log(np.maximum(energies, 1e-12)).mean())) if energies is not None else None,
    )  # fmt: skip
    return row, found


def priced_lines(
    rows: Sequence[DepthRow], times: Mapping[str | None, StepTimes] | str, read_s: float, num_samples: int, epochs: int,
    fill_s: Callable[[float, int], float],
) -> list[DepthRow]:  # fmt: skip
    """The rows with seconds of an epoch with and without a cache, and of the whole training.

    Args:
        rows: The rows of all lines.
        times: Seconds of a training step by line; a text where they could not be measured.
        read_s: Seconds to read a sample.
        num_samples: Samples of an epoch.
        epochs: Epochs.
        fill_s: Seconds to fill a cache, from those to make a row, and its bytes.
    """
    if isinstance(times, str):
        return list(rows)
    return [
        _priced(row, times[row.through], read_s, num_samples, epochs, fill_s) if row.through in times else row
        for row in rows
    ]


def _priced(
    row: DepthRow, cost: StepTimes, read_s: float, num_samples: int, epochs: int, fill_s: Callable[[float, int], float]
) -> DepthRow:
    uncached_s = num_samples * (read_s + cost.frozen_s + cost.above_s)
    if row.through is None:
        return replace(row, epoch_s=uncached_s, total_s=epochs * uncached_s)
    cached_s = num_samples * (cost.gather_s + cost.above_s)
    total_s = fill_s(read_s + cost.frozen_s, row.bytes_per_sample) + epochs * cached_s
    return replace(row, epoch_s=uncached_s, cached_epoch_s=cached_s, total_s=total_s)
