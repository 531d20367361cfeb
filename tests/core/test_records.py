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


def test_a_finding_of_the_whole_run_names_no_place():
    whole = replace(FINDING, layer=None)
    assert (whole.place, str(whole).splitlines()[0]) == ("", "FL101 issue: vanishing gradients")


def test_notes_of_a_freeze_stand_on_lines_of_their_own():
    assert str(FreezeSummary((), (), 0, 0, ("a", "b"))).endswith("(0.0%)\nnote: a\nnote: b")
