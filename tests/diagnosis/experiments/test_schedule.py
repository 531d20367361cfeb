import math
from dataclasses import replace
from types import SimpleNamespace

from frostline.diagnosis import Score
from frostline.diagnosis.experiments.runner import Runner
from frostline.diagnosis.experiments.schedule import Schedule, starting_order, units_at_once, with_rates
from helpers_race import LEG, race, suspected


def test_there_is_an_end_to_the_steps_of_all():
    found = race(lr=0.1)
    with found.untreated:
        found.untreated.bring(2 * LEG)
        first, seen = suspected(found), SimpleNamespace(is_learning=True, is_stuck=False)

        def has_room(suspicion, seen=seen):
            return found.schedule.has_room(suspicion, 2 * LEG, found.runners, seen)

        assert has_room(first)
        found.runners.append(Runner(found._patient, first, steps=50))
        assert not has_room(first)
        assert has_room(first, SimpleNamespace(is_learning=False, is_stuck=True))  # it has nothing to lose
        found.runners[0].steps = 30
        assert has_room(first)
        assert has_room(replace(first, is_issue=False))
        assert not has_room(replace(first, is_issue=False, is_clear=False))


def test_marks_end_before_the_steps_in_which_the_rules_are_asked_again():
    assert list(Schedule(0, LEG, 9, 50).marks) == [10, 20, 30, 40]
    assert Schedule(0, LEG, 4, 50).end == 40
    assert list(Schedule(0, LEG, 2, 50).marks) == [10, 20]
    assert list(Schedule(20, LEG, 9, 50).marks) == [30, 40]
    short = Schedule(0, LEG, 4, 12)  # one mark in any case
    assert (list(short.marks), short.end) == ([10], 10)


def test_a_winner_is_compared_with_a_lower_rate_after_twice_its_steps_and_a_third_of_all():
    schedule = Schedule(0, LEG, 4, 200)
    assert (schedule.later(16), schedule.later(46), schedule.later(180)) == (70, 100, None)
    assert list(Schedule(0, LEG, 4, 70).marks_of_stuck) == [50, 60]


def test_later_marks_are_those_after_half_as_many_steps_again_and_after_twice():
    schedule = Schedule(20, LEG, 9, 100)
    assert (schedule.taken(40), schedule.num_marks(40), schedule.twice(40)) == (20, 2, 60)
    assert schedule.half_as_many_again(40) == 50
    assert schedule.twice(80) == schedule.end == 90
    assert list(schedule.parts(40, 60)) == [50, 60]
    assert [schedule.num_places(mark) for mark in (50, 60)] == [2, 1]


def lines(found):
    return starting_order(found.seen, is_whole=found.untreated.is_whole)


def test_what_was_wrong_first_is_tried_first():
    def line(name, family="vanishing", **options):
        return replace(
            suspected(found, family=family),
            remedy=replace(clip, name=name, key=name, **options.pop("own", {})),
            **options,
        )

    found = race()
    with found.untreated:
        found.untreated.bring(LEG)
        clip = found.seen.rates(both=True)[0][0].remedy
        late, early = line("late", is_late=True), line("early", is_late=False)
        spikes, due = line("clip", is_late=True), line("due", is_late=True, own={"is_due": True})
        nonfinite = line("skip", "nonfinite", is_late=False)
        rates = [[line("slower")], [line("f0"), line("f1"), line("f2"), line("f3")]]
        for codes, order in (
            ({"FL103"}, ["due", "early", "clip", "slower", "late", "due", "f2 f3", "f1 f0"]),
            (set(), ["due", "early", "slower", "late", "clip", "due", "f2 f3", "f1 f0"]),
        ):
            found.untreated.seen = SimpleNamespace(
                suspicions=lambda: [late, early, spikes, due, nonfinite], rates=lambda both: rates, is_stuck=False,
                is_learning=True, codes=codes,
            )  # fmt: skip
            assert [" ".join(one.remedy.name for one in part) for part in lines(found)] == order
        found.untreated.runner.scores[LEG] = Score(0.0, math.nan)  # what it has left out has done harm
        assert [nonfinite] in lines(found)


def test_a_stuck_network_gets_faster_rates_before_slower_ones_without_a_sign_of_large_steps():
    found = race()
    with found.untreated:
        found.untreated.bring(LEG)
        down, up = suspected(found, factor=0.1), suspected(found, factor=10.0)
        for is_stuck, slower, codes, expected in (
            (True, [], set(), [up]), (False, [], set(), []), (True, [down], {"FL403"}, [up, down]),
            (True, [down], {"FL401"}, [down, up]), (False, [down], {"FL401"}, [down]),
        ):  # fmt: skip
            found.untreated.seen = SimpleNamespace(
                suspicions=list, is_stuck=is_stuck, is_learning=not is_stuck, codes=codes,
                rates=lambda both, own=slower: (own, [up] if both else []),
            )  # fmt: skip
            assert [one for part in lines(found) for one in part] == expected


def test_inputs_and_targets_in_another_unit_are_treated_at_once_before_each_alone():
    found = race()
    with found.untreated:
        found.untreated.bring(LEG)
        inputs, targets = (suspected(found, factor=factor, family="input_scale") for factor in (2.0, 3.0))
        (pair,) = units_at_once([inputs, targets])[0]
        assert (pair.identity, pair.family) == ("times 2.0 and times 3.0", "input_scale")
        assert units_at_once([inputs, replace(targets, is_issue=False)]) == []
        assert units_at_once([inputs]) == []


def test_where_nothing_is_learnt_an_early_issue_is_treated_with_lower_rates_as_well():
    found = race()
    with found.untreated:
        found.untreated.bring(LEG)
        weights = suspected(found, factor=1.0, family="initialization", is_late=False)
        down = [suspected(found, factor=0.1), suspected(found, factor=0.01)]
        assert [one.name for line in with_rates([[weights]], down) for one in line] == [
            "times 1.0, and times 0.1", "times 1.0, and times 0.01"
        ]  # fmt: skip
        assert with_rates([[replace(weights, is_issue=False)]], down) == []
        assert with_rates([[weights]], []) == []
