"""Networks that flatten maps: a port is exact, or refused; `python -m exams.fuzz.flattens` runs more of them."""

import pytest

from exams.fuzz import flattens
from exams.fuzz.flattens import AMBIGUOUS, EXACT, GOLDEN, REFUSED, WRONG, examine, examine_torch
from frostline.porting.plan import flattened


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_a_flattened_network_is_exact_or_refused(first, tmp_path):
    found = [examine(seed, tmp_path) for seed in range(first, first + 20)]
    assert {one.outcome for one in found} <= {EXACT, GOLDEN, AMBIGUOUS, REFUSED}
    assert sum(one.outcome in (EXACT, GOLDEN) for one in found) >= 12


@pytest.mark.parametrize("first", range(0, 20, 10))
def test_a_network_of_a_framework_with_channels_first_stays_as_it_is(first, tmp_path):
    assert {examine_torch(seed, tmp_path).outcome for seed in range(first, first + 10)} == {EXACT}


def test_a_port_that_turns_nothing_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(flattened, "CHANNELS_LAST", ())
    assert WRONG in {examine(seed, tmp_path).outcome for seed in range(10)}
    counts, shown = flattens.run(0, 3)
    assert sum(counts.values()) == 6
    assert all("wrong" in line or "refused" in line or "ambiguous" in line for line in shown)
