from dataclasses import replace

import pytest
import torch

import frostline as fl
from frostline.core.selection_records import DepthRow
from frostline.selection import StepTimes, Taps, find_lines, priced_lines, targets_from
from frostline.selection.line_scores import features_at, scored_line, scored_lines
from frostline.selection.scores import reaches
from helpers_selection import ResNet, images


def test_a_line_has_all_scores_and_its_probe():
    torch.manual_seed(0)
    model, (x, y) = ResNet().eval(), images()
    lines = find_lines(model, x[:4])
    fl.freeze(model, through="blocks")
    taps = Taps(model, fl.split(model, x[:4]), lines, x[:4])
    columns = dict(zip([t.name for t in taps.frontier], [f.numpy() for f in taps.extract(x)], strict=True))

    def scored(line):
        return scored_line(line, features_at(line, taps, columns), taps, columns, targets_from(y))

    row, found = scored(lines[1])
    assert (row.through, row.probe) == ("bn", found.value)
    scores = (row.probe_error, row.knn, row.logme, row.hscore, row.regularized_hscore, row.effective_rank, row.energy)
    assert all(isinstance(score, float) for score in scores)
    bottom, _ = scored(lines[0])
    assert bottom.energy is None
    columns["bn"][:] = 1
    assert scored(lines[1])[0].why_not == "the features are the same for all samples"
    columns.pop("bn")
    assert scored(lines[1]) == (DepthRow(
        "bn", num_trainable=lines[1].num_trainable, bytes_per_sample=lines[1].bytes_per_sample), None)  # fmt: skip


def test_prices_are_those_of_the_epochs():
    rows = [DepthRow(None), DepthRow("layer", bytes_per_sample=100), DepthRow("not timed")]
    times = {None: StepTimes(0.0, 0.04, 0.0), "layer": StepTimes(0.03, 0.01, 0.001)}
    whole, found, other = priced_lines(rows, times, 0.002, 1000, 5, lambda row_s, size: 1000 * row_s + size)
    assert found.epoch_s == pytest.approx(1000 * (0.002 + 0.03 + 0.01))
    assert found.cached_epoch_s == pytest.approx(1000 * (0.001 + 0.01))
    assert found.total_s == pytest.approx(1000 * (0.002 + 0.03) + 100 + 5 * found.cached_epoch_s)
    assert whole.cached_epoch_s is None
    assert whole.total_s == pytest.approx(5 * whole.epoch_s)
    assert other == rows[2]
    assert priced_lines(rows, "not measured", 0.002, 1000, 5, lambda row_s, size: 0.0) == rows


def test_a_line_reaches_what_it_and_all_usable_lines_above_it_hold_together():
    torch.manual_seed(0)
    model, (x, y) = ResNet().eval(), images()
    lines = find_lines(model, x[:4])
    fl.freeze(model, through="blocks")
    taps = Taps(model, fl.split(model, x[:4]), lines, x[:4])
    columns = dict(zip([t.name for t in taps.frontier], [f.numpy() for f in taps.extract(x)], strict=True))
    targets = targets_from(y)
    rows, _ = scored_lines(lines, taps, columns, targets)
    parts = [features_at(line, taps, columns) for line in lines]
    assert [row.reachable for row in rows] == [reach.value for reach in reaches(parts, targets)]
    peak = max(rows, key=lambda row: row.reachable)
    assert peak.reachable_error == 0
    assert all(row.reachable_error > 0 for row in rows if row is not peak)
    marked = [replace(line, why_not="runs again") if line is lines[-1] else line for line in lines]
    without, _ = scored_lines(marked, taps, columns, targets)
    assert without[-1].reachable is None
    assert [row.reachable for row in without[:-1]] == [r.value for r in reaches(parts[:-1], targets)]
