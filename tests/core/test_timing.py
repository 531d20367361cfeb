from types import SimpleNamespace

from frostline.core import timing
from frostline.core.timing import Stopwatch, interleaved, paired_ratio, timed


def test_things_are_measured_in_turns():
    seen = []
    actions = [lambda: seen.append("a"), lambda: seen.append("b")]
    before = [lambda: seen.append("to a"), lambda: seen.append("to b")]
    times = interleaved(actions, rounds=2, before=before)
    assert seen == ["to a", "a", "to b", "b", "to b", "b", "to a", "a", "to a", "a", "to b", "b"]
    assert [len(kept) for kept in times] == [2, 2]
    assert min(map(min, times)) > 0


def test_a_spent_budget_leaves_three_rounds():
    assert [len(kept) for kept in interleaved([int, int], rounds=9, budget_s=0.0)] == [3, 3]


def test_ratios_are_of_the_same_round():
    assert paired_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0
    assert timed(int) >= 0


def test_a_stopwatch_adds_laps(monkeypatch):
    times = iter([0.0, 3.0, 10.0, 11.0])
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    watch = Stopwatch()
    assert watch.per_sample == 0
    with watch.lap(3):
        pass
    with watch.lap(1):
        pass
    assert (watch.seconds, watch.samples, watch.per_sample) == (4.0, 4, 1.0)
