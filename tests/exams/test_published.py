"""The exam of published bugs: cases build, twins differ, marks follow what is said."""

import pytest
import torch

from exams.published.__main__ import Answer, ask, main, marks
from exams.published.case import CASES
from exams.published.healthy import WELL
from exams.published.repairs import plain_score
from frostline.core.inputs import call

DRAWN = {"images", "sequences", "pairs", "settings"}


@pytest.mark.parametrize("name", CASES)
def test_a_case_and_its_twin_take_a_step(name):
    case = CASES[name]
    assert case.mechanism.endswith(".")
    assert case.source
    for is_sick in (True, False):
        torch.manual_seed(0)
        training = case.build(is_sick)
        inputs, target = training.batches[0]
        loss = training.loss_fn(call(training.model, inputs), target)
        if is_sick and "refused" in case.right and not loss.requires_grad:
            continue  # the bug cuts the graph off
        loss.backward()
        training.optimizer.step()
        assert len(training.batches) > 45


def test_marks_follow_what_is_said():
    case = CASES["clip_at_zero"]
    sick = Answer(("FL406", "FL402"), ("FL406",), frozenset({"FL406", "learning_rate"}), "Leave the clip out.")
    well = Answer((), (), frozenset({""}), "")
    assert marks(case, sick, well) == (True, True, True, True, False)
    assert marks(case, well, sick) == (False, False, False, False, True)


def test_a_case_is_asked_and_a_row_written(capsys):
    sick = ask(CASES["clip_at_zero"], is_sick=True)
    assert sick.issues == ("FL406",)
    main(["optimizer_of_an_older_network"])
    *_, row, total = capsys.readouterr().out.strip().splitlines()
    assert row.startswith("| optimizer_of_an_older_network | yes | yes | yes | yes | no |")
    assert total.startswith("| of 1 |")


def test_about_half_of_the_drawn_cases_are_set_aside_by_their_names():
    drawn = [case for case in CASES.values() if case.build.__module__.rpartition(".")[2] in DRAWN]
    aside = [case.name for case in CASES.values() if case.part == "set aside"]
    assert len(drawn) >= 25
    assert len(aside) == 17
    assert set(aside) < {case.name for case in drawn}


def test_a_bug_in_the_loop_is_asked_of_the_monitor():
    found = ask(CASES["critic_is_not_cleared"], is_sick=True)
    assert "FL504" in found.issues
    assert not ask(CASES["critic_is_not_cleared"], is_sick=False).issues


def test_bugs_collected_later_have_a_line_to_change_and_are_all_set_aside():
    later = [case for case in CASES.values() if case.part == "later"]
    assert len(later) == 26
    assert {case.build.__module__.rpartition(".")[2] for case in later} == {"graphs", "loops", "targets"}
    assert all(case.line and "#" in case.source for case in later)


def test_bugs_drawn_by_a_rule_have_a_line_to_change():
    drawn = [case for case in CASES.values() if case.part == "drawn"]
    assert len(drawn) == 21
    assert {case.build.__module__.rpartition(".")[2] for case in drawn} == {"objectives", "streams", "structures"}
    assert all(case.line and "#" in case.source for case in drawn)


SECOND = ("answers", "examples", "parts", "speeds")


def test_bugs_of_the_second_draw_say_what_counts_and_are_in_their_files():
    drawn = [case for case in CASES.values() if case.part == "second draw"]
    assert len(drawn) == 32
    assert {case.build.__module__.rpartition(".")[2] for case in drawn} == set(SECOND)
    assert all(case.line and case.counts.startswith("That ") and case.counts.endswith(".") for case in drawn)
    assert all(case.words == tuple(word.lower() for word in case.words) for case in drawn)
    sources = [case.source for case in CASES.values()]
    assert len({case.source for case in drawn}) == 32
    assert all(sources.count(case.source) == 1 for case in drawn)


@pytest.mark.parametrize("name", ["sine_from_a_sigmoid", "two_images_hold_nan", "groups_by_names_that_do_not_occur"])
def test_a_twin_of_the_second_draw_is_clearly_better(name):
    scores = []
    for is_sick in (True, False):
        torch.manual_seed(1)
        scores.append(plain_score(CASES[name].build(is_sick)))
    assert scores[1] > scores[0] + 0.3


THIRD = ("makers", "outcomes", "own_parts", "places", "samples", "stages", "terms")


def test_bugs_of_the_third_draw_say_what_counts_and_are_in_their_files():
    drawn = [case for case in CASES.values() if case.part == "third draw"]
    assert len(drawn) == 40
    assert {case.build.__module__.rpartition(".")[2] for case in drawn} == set(THIRD)
    assert all(case.line and case.counts.startswith("That ") and case.counts.endswith(".") for case in drawn)
    assert all(case.words == tuple(word.lower() for word in case.words) for case in drawn)
    sources = [case.source for case in CASES.values()]
    assert all(sources.count(case.source) == 1 for case in drawn)


@pytest.mark.parametrize("name", ["variance_is_squared", "moments_corrected_the_wrong_way"])
def test_a_twin_of_the_third_draw_is_clearly_better(name):
    scores = []
    for is_sick in (True, False):
        torch.manual_seed(1)
        scores.append(plain_score(CASES[name].build(is_sick)))
    assert scores[1] > scores[0] + 0.3


FOURTH = ("misfits", "mislabels", "scales", "sentences", "updates")


def test_bugs_of_the_fourth_draw_say_what_counts_and_are_in_their_files():
    drawn = [case for case in CASES.values() if case.part == "fourth draw"]
    assert len(drawn) == 32
    assert {case.build.__module__.rpartition(".")[2] for case in drawn} == set(FOURTH)
    assert all(case.line and case.counts.startswith("That ") and case.counts.endswith(".") for case in drawn)
    assert all(case.words == tuple(word.lower() for word in case.words) for case in drawn)
    sources = [case.source for case in CASES.values()]
    assert all(sources.count(case.source) == 1 for case in drawn)


@pytest.mark.parametrize("name", ["sums_compared_with_every_sum", "depths_that_are_nan"])
def test_a_twin_of_the_fourth_draw_is_clearly_better(name):
    scores = []
    for is_sick in (True, False):
        torch.manual_seed(1)
        scores.append(plain_score(CASES[name].build(is_sick)))
    assert scores[1] > scores[0] + 0.3


@pytest.mark.parametrize("name", ["policy_gradient", "messages_in_a_graph", "normalising_flow"])
def test_a_healthy_network_learns_its_task(name):
    torch.manual_seed(1)
    assert plain_score(WELL[name].build()) >= WELL[name].least


def test_healthy_networks_of_all_kinds_take_a_step():
    assert len(WELL) >= 24
    for one in WELL.values():
        training = one.build()
        inputs, target = training.batches[0]
        training.loss_fn(call(training.model, inputs), target).backward()
        assert len(training.batches) > 45
