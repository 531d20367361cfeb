import math
from dataclasses import replace
from types import SimpleNamespace

from frostline.diagnosis import Score
from frostline.diagnosis.experiments.runner import Runner
from frostline.diagnosis.experiments.schedule import Schedule, starting_order
from helpers_race import LEG, race, suspected


def test_there_is_an_end_to_the_steps_of_all():
    found = race(lr=0.1)
    with found.untreated:
        found.untreated.bring(2 * LEG)
        first = suspected(found)

        def has_room(suspicion):
            return found.schedule.has_room(suspicion, 2 * LEG, found.runners, is_learning=found.seen.is_learning)

        assert has_room(first)
        found.runners.append(Runner(found._patient, first, steps=50))
        assert not has_room(first)
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
                codes=codes,
            )  # fmt: skip
            assert [" ".join(one.remedy.name for one in part) for part in lines(found)] == order
        found.untreated.runner.scores[LEG] = Score(0.0, math.nan)  # what it has left out has done harm
        assert [nonfinite] in lines(found)


def test_a_stuck_network_without_a_symptom_gets_faster_rates():
    found = race()
    with found.untreated:
        found.untreated.bring(LEG)
        other = suspected(found)
        for is_stuck, slower, expected in ((True, [], 1), (False, [], 0), (True, [other], 0)):
            found.untreated.seen = SimpleNamespace(
                suspicions=list, is_stuck=is_stuck, codes=set(),
                rates=lambda both, own=slower: (own, [other] if both else []),
            )  # fmt: skip
            assert sum(len(part) for part in lines(found)) == expected + len(slower)
