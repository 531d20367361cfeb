"""The exam of published bugs: cases build, twins differ, marks follow what is said."""

import pytest
import torch

from exams.published.__main__ import Answer, ask, main, marks
from exams.published.case import CASES
from frostline.core.inputs import call


@pytest.mark.parametrize("name", CASES)
def test_a_case_and_its_twin_take_a_step(name):
    case = CASES[name]
    assert case.mechanism.endswith(".")
    assert case.source
    for is_sick in (True, False):
        torch.manual_seed(0)
        training = case.build(is_sick)
        inputs, target = training.batches[0]
        training.loss_fn(call(training.model, inputs), target).backward()
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
