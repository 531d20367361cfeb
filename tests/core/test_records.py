import dataclasses
from dataclasses import replace

import pytest
import torch

from frostline.core import records
from frostline.core.records import Diagnosis, Finding, FreezeSummary, FrontierTensor, ReuseSummary

FINDING = Finding("FL101", "vanishing gradients", "vanishing", "3", "issue", 1e-9, 1e-6, "it is small.", "swap it.")


def test_records_cannot_be_changed():
    found = [entry for entry in vars(records).values() if dataclasses.is_dataclass(entry)]
    assert len(found) > 8
    for record in found:
        assert record.__dataclass_params__.frozen, record


def test_inputs_are_told_from_features_by_their_name():
    assert FrontierTensor("input.mask", (3,), torch.bool, 3, False).is_input
    assert not FrontierTensor("inputs", (3,), torch.bool, 3, False).is_input


def test_a_summary_reads_as_a_sentence():
    summary = FreezeSummary(("0",), ("0.weight", "0.bias"), 1500, 2000)
    assert str(summary) == "1 layers, 2 parameters changed; 1,500 of 2,000 elements frozen (75.0%)"
    assert FreezeSummary((), (), 0, 0).share_frozen == 0.0
    assert str(ReuseSummary(("a", "b"), ("c",), ())) == "2 tensors copied, 1 new, 0 skipped"


@pytest.mark.parametrize(("outcome", "is_healthy"), [("issue", False), ("tip", True)])
def test_only_an_issue_is_a_sickness(outcome, is_healthy):
    finding = dataclasses.replace(FINDING, outcome=outcome)
    assert Diagnosis((finding,), None, ()).is_healthy is is_healthy


def test_a_diagnosis_names_the_cause_or_what_fits():
    passed, silent = (replace(FINDING, outcome=outcome) for outcome in ("passed", "not applicable"))
    assert str(Diagnosis((), None, (), (passed, silent))) == "Healthy: 1 rules passed, 1 do not apply."
    assert str(Diagnosis((), None, (), (silent, silent))) == "Nothing could be judged:\nit is small."
    assert str(Diagnosis((FINDING,), "vanishing", ())).endswith("Cause: vanishing")
    assert str(Diagnosis((FINDING,), None, ("a", "b"))).endswith("Causes that fit: a, b")
    assert str(FINDING).splitlines()[0] == "FL101 issue: vanishing gradients in 3"


def test_the_same_finding_in_many_layers_is_told_once():
    findings = [replace(FINDING, layer=str(layer)) for layer in range(10)]
    text = str(Diagnosis((*findings[:1], replace(FINDING, code="FL1"), *findings[1:]), None, ()))
    assert text.count("FL101 issue") == 1
    assert text.splitlines()[2:4] == ["  Also in 1, 2, 3, 4, 5, 6 and 3 more.", f"  Do: {FINDING.advice}"]
    assert "FL1 issue" in text


def test_a_finding_of_the_whole_run_names_no_place():
    whole = replace(FINDING, layer=None)
    assert (whole.place, str(whole).splitlines()[0]) == ("", "FL101 issue: vanishing gradients")


def test_six_other_layers_are_named_and_more_are_counted():
    for count, more in ((7, "5, 6."), (8, "5, 6 and 1 more.")):
        text = str(Diagnosis(tuple(replace(FINDING, layer=str(layer)) for layer in range(count)), None, ()))
        assert text.splitlines()[2] == f"  Also in 1, 2, 3, 4, {more}"


PASSED, SILENT, UNASKED, TIP = (
    replace(FINDING, outcome=outcome) for outcome in ("passed", "not applicable", "not judged", "tip")
)


@pytest.mark.parametrize(
    ("diagnosis", "last"),
    [
        (Diagnosis((), None, (), (PASSED, SILENT)), "Healthy: 1 rules passed, 1 do not apply."),
        (Diagnosis((), None, (), (SILENT,), (replace(UNASKED, why="it was not asked."),)),
         "Nothing could be judged:\nit was not asked."),
        (Diagnosis((), None, (), (PASSED,), (UNASKED, replace(UNASKED, code="FL102", title="others"))),
         "No symptoms found: 1 rules passed, 0 do not apply, 2 could not be judged.\n"
         "Could not be judged: FL101 vanishing gradients, FL102 others: it is small."),
        (Diagnosis((TIP,), None, (), (PASSED,)), "No issue: training may be fine."),
        (Diagnosis((TIP,), None, (), (PASSED,), (UNASKED,)),
         "Could not be judged: FL101 vanishing gradients: it is small.\n"
         "No issue was found by the rules that could be asked."),
        (Diagnosis((replace(TIP, code="FL405"),), None, ()),
         "No issue was found, but something does not train or learn: its cause could not be judged."),
        (Diagnosis((FINDING,), None, ()), "Causes that fit: none known"),
    ],
    ids="healthy nothing-judged some-judged tip tip-and-unasked nothing-trains no-cause".split(),
)  # fmt: skip
def test_a_diagnosis_ends_with_what_is_known(diagnosis, last):
    assert str(diagnosis).endswith(last)
    assert str(diagnosis) == last or diagnosis.findings


def test_the_other_places_of_a_finding_leave_out_the_whole_run():
    text = str(Diagnosis((FINDING, replace(FINDING, layer=None)), None, ()))
    assert "Also in" not in text
    assert str(replace(FINDING, layer_type="Linear, 2 to 3")).startswith(
        "FL101 issue: vanishing gradients in layer '3' (Linear, 2 to 3)\n"
    )


def test_notes_of_a_freeze_stand_on_lines_of_their_own():
    assert str(FreezeSummary((), (), 0, 0, ("a", "b"))).endswith("(0.0%)\nnote: a\nnote: b")


def test_a_diagnosis_of_nothing_calls_nothing_healthy():
    assert str(Diagnosis((), None, ())) == "Nothing could be judged:"
