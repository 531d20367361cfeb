import pytest
import torch

import frostline as fl
from frostline.core.selection_records import DepthRow
from frostline.selection import StepTimes, Taps, find_lines, priced_line, scored_line, targets_from
from helpers_selection import ResNet, images


def test_a_line_has_all_scores_and_its_probe():
    torch.manual_seed(0)
    model, (x, y) = ResNet().eval(), images()
    lines = find_lines(model, x[:4])
    fl.freeze(model, through="blocks")
    taps = Taps(model, fl.split(model, x[:4]), lines, x[:4])
    columns = dict(zip([t.name for t in taps.frontier], [f.numpy() for f in taps.extract(x)], strict=True))
    row, found = scored_line(lines[1], taps, columns, targets_from(y))
    assert (row.through, row.probe) == ("bn", found.value)
    scores = (row.probe_error, row.knn, row.logme, row.hscore, row.regularized_hscore, row.effective_rank, row.energy)
    assert all(isinstance(score, float) for score in scores)
    bottom, _ = scored_line(lines[0], taps, columns, targets_from(y))
    assert bottom.energy is None
    columns["bn"][:] = 1
    assert (
        scored_line(lines[1], taps, columns, targets_from(y))[0].why_not == "the features are the same for all samples"
    )
    columns.pop("bn")
    assert scored_line(lines[1], taps, columns, targets_from(y)) == (DepthRow(
        "bn", num_trainable=lines[1].num_trainable, bytes_per_sample=lines[1].bytes_per_sample), None)  # fmt: skip


def test_prices_are_those_of_the_epochs():
    row = DepthRow("layer", bytes_per_sample=100)
    found = priced_line(row, StepTimes(0.03, 0.01, 0.001), 0.002, 1000, 5, lambda row_s, size: 1000 * row_s + size)
    assert found.epoch_s == pytest.approx(1000 * (0.002 + 0.03 + 0.01))
    assert found.cached_epoch_s == pytest.approx(1000 * (0.001 + 0.01))
    assert found.total_s == pytest.approx(1000 * (0.002 + 0.03) + 100 + 5 * found.cached_epoch_s)
    whole = priced_line(DepthRow(None), StepTimes(0.0, 0.04, 0.0), 0.002, 1000, 5, lambda row_s, size: 1e9)
    assert whole.cached_epoch_s is None
    assert whole.total_s == pytest.approx(5 * whole.epoch_s)
