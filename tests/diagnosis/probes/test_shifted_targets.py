import pytest
import torch

from frostline.diagnosis.probes.shifted_targets import facts_of_shifts
from frostline.diagnosis.rules.wiring_records import ShiftFacts

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(480, 6, generator=GENERATOR)
CLASSES = INPUTS[:, :3].argmax(1)
NUMBERS = INPUTS @ torch.randn(6, generator=GENERATOR)


def facts(move=lambda target: target, target=CLASSES, order=None):
    order = torch.arange(480) if order is None else order
    return facts_of_shifts([(INPUTS[rows], move(target[rows])) for rows in order.split(24)])


@pytest.mark.parametrize(
    ("move", "instead"),
    [(lambda one: one.roll(1), "the row before"), (lambda one: one.roll(-1), "the row after"),
     (lambda one: one.flip(0), "the row in reversed order")],
)  # fmt: skip
@pytest.mark.parametrize("target", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_targets_of_other_rows_are_found(move, instead, target):
    # What is given belongs to another row, so that the way back leads to the own one.
    back = {"the row before": "the row after", "the row after": "the row before"}
    found = facts(move, target)
    assert found.instead == back.get(instead, instead)
    assert found.own < 0.1 < 0.3 < found.read


def test_targets_of_their_own_rows():
    found = facts()
    assert (found.instead, found.between) == ("", 0.0)
    assert found.own > 0.5
    assert facts(lambda one: one[torch.randperm(24, generator=GENERATOR)]).instead == ""


def test_windows_of_a_series_hold_the_targets_of_the_rows_before():
    series = torch.randn(500, generator=GENERATOR)  # of which nothing can be read ahead
    windows = [(part[:, :6], part[:, 6:]) for part in series.unfold(0, 7, 1).split(24)]
    assert facts_of_shifts(windows).instead == ""
    moved = [(inputs, 3 * target + 5) for inputs, target in windows]  # in another unit
    assert facts_of_shifts(moved).instead == ""
    kept = [(inputs[rows], target[rows]) for inputs, target in moved for rows in [torch.arange(len(target)) % 6 > 0]]
    assert facts_of_shifts(kept).instead == ""  # some rows are held out


def test_batches_in_order_of_the_targets():
    assert facts(target=NUMBERS, order=NUMBERS.argsort()).between > 0.8
    assert facts(target=NUMBERS).between < 0.3
    assert facts(target=(NUMBERS > 0).float(), order=NUMBERS.argsort()).between == 0.0  # labels


def test_other_targets_are_left_alone():
    assert facts_of_shifts([(INPUTS, torch.zeros(480, 2, 3))]) is None
    words = [(torch.full((240, 2), 99), CLASSES[:240])]
    assert facts_of_shifts(words) == ShiftFacts()
