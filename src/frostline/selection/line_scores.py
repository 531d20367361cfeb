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
    regularized_hscore,
)
from frostline.selection.taps import ENERGY, INPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.selection.candidates import Line
    from frostline.selection.costs import StepTimes
    from frostline.selection.scores import Scored
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
    for line in lines:
        row, found = scored_line(line, taps, columns, targets)
        rows.append(row)
        if found is not None:
            probes[row.through or INPUTS] = found
    return with_reach(rows), probes


def with_reach(rows: Sequence[DepthRow]) -> list[DepthRow]:
    """The rows, from the bottom to the top, with the best probe of each line and of all above it.

    A probe at a low line is blind to what the layers above it do with its features. If they train, they may stay as
    they are: a line is worth at least what the best line above it is worth.
    """
    found: list[DepthRow] = []
    best: float | None = None
    for row in reversed(rows):
        if row.probe is not None and not row.why_not:
            best = row.probe if best is None else max(best, row.probe)
        found.append(replace(row, reachable=best))
    return found[::-1]


def scored_line(
    line: Line, taps: Taps, columns: Mapping[str, NDArray[Any]], targets: Targets
) -> tuple[DepthRow, Scored | None]:
    """The row of a line, and the probe it rests on.

    Args:
        line: The line; the one at the bottom is scored by the inputs.
        taps: What the columns are.
        columns: (N, D) features by name of the tap.
        targets: Targets of the N samples.
    """
    row = DepthRow(
        line.through, num_trainable=line.num_trainable, bytes_per_sample=line.bytes_per_sample, why_not=line.why_not
    )
    name = INPUTS if line.through is None else line.through
    if name not in columns:
        return row, None
    features = Features(columns[name], taps.num_mean.get(name) or columns[name].shape[1])
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
