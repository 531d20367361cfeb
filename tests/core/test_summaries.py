from dataclasses import replace

import pytest

from frostline.core.records import (
    CacheFigures,
    Diagnosis,
    Epoch,
    Finding,
    FitResult,
    Healing,
    Timings,
    Treatment,
)

FINDING = Finding("FL101", "vanishing gradients", "vanishing", "3", "issue", 1e-9, 1e-6, "it is small.", "swap it.")
PASSED, SILENT, UNASKED, TIP = (
    replace(FINDING, outcome=outcome) for outcome in ("passed", "not applicable", "not judged", "tip")
)


def test_a_diagnosis_names_the_cause_or_what_fits():
    passed, silent = (replace(FINDING, outcome=outcome) for outcome in ("passed", "not applicable"))
    assert str(Diagnosis((), None, (), (passed, silent))) == "No symptoms found. 1 rule passed; 1 does not apply."
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


def test_six_other_layers_are_named_and_more_are_counted():
    for count, more in ((7, "5, 6."), (8, "5, 6 and 1 more.")):
        text = str(Diagnosis(tuple(replace(FINDING, layer=str(layer)) for layer in range(count)), None, ()))
        assert text.splitlines()[2] == f"  Also in 1, 2, 3, 4, {more}"


@pytest.mark.parametrize(
    ("diagnosis", "last"),
    [
        (Diagnosis((), None, (), (PASSED, SILENT)), "No symptoms found. 1 rule passed; 1 does not apply."),
        (Diagnosis((), None, (), (SILENT,), (replace(UNASKED, why="it was not asked."),)),
         "Nothing could be judged:\nit was not asked."),
        (Diagnosis((), None, (), (PASSED,), (UNASKED, replace(UNASKED, code="FL102", title="others"))),
         "No symptoms found. 1 rule passed; 2 could not be evaluated.\n"
         "Could not be evaluated: FL101 vanishing gradients, FL102 others: it is small."),
        (Diagnosis((TIP,), None, (), (PASSED,)), "No issue was found: training may be fine."),
        (Diagnosis((TIP,), None, (), (PASSED,), (UNASKED,)),
         "Could not be evaluated: FL101 vanishing gradients: it is small.\n"
         "No issue was found by the rules that could be evaluated."),
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


def test_a_diagnosis_of_nothing_calls_nothing_healthy():
    assert str(Diagnosis((), None, ())) == "Nothing could be judged:"


NOTHING = Diagnosis((), None, (), (PASSED,))
KEPT = Treatment("Leaky ReLU", "vanishing", True, 0.1, (), "kept: held-out loss 0.1 against 1 untreated.")
GONE = Treatment("BatchNorm", "vanishing", False, 0.5, ("FL101",), "rolled back: Leaky ReLU is better.")


def test_a_healing_is_told_as_a_story_in_a_few_lines():
    typed = replace(FINDING, layer_type="Linear, 2 to 3")
    before = Diagnosis((typed, replace(typed, layer="4"), replace(typed, layer="5")), "vanishing", ("vanishing",))
    healing = Healing(True, (GONE, KEPT), before, NOTHING, 1.0, 0.05, "the model is good at the end.")
    assert str(healing) == repr(healing)
    assert str(healing).splitlines() == [
        "Healed by: Leaky ReLU.",
        "  before:  FL101 issue: vanishing gradients in layer '3' (Linear, 2 to 3) and 2 more layers",
        "  tried:   BatchNorm (vanishing): rolled back: Leaky ReLU is better.",
        "  tried:   Leaky ReLU (vanishing): kept: held-out loss 0.1 against 1 untreated.",
        "  loss:    1 before, 0.05 after, on held-out samples",
        "  after:   no symptoms",
        "  verdict: the model is good at the end.",
    ]
    assert str(replace(healing, accepted=False)).startswith("Not healed: a treatment was kept, but")
    nothing = replace(healing, accepted=False, treatments=(GONE,), verdict="")
    assert str(nothing).startswith("No treatment was kept: the model was trained as it is.\n")
    assert "verdict" not in str(nothing)


def test_a_training_is_told_by_its_figures():
    timings = Timings(0.0, 0.0, 1.0, 2.04, None)
    plain = FitResult((Epoch(0, 0.5, None, None, 0.1, 1.0),), 0, False, timings, None, None)
    assert repr(plain) == str(plain) == "Trained 1 epoch in 2.0 s.\n  last epoch: training loss 0.5"
    scored = Epoch(1, 0.25, 0.3, 0.9, 0.1, 1.0)
    full = replace(plain, history=(*plain.history, scored), stopped_early=True, findings=(TIP,), out="run",
                   cache=CacheFigures(10, 4, 6, 100, "cache"))  # fmt: skip
    assert str(full).splitlines() == [
        "Trained 2 epochs in 2.0 s, stopped early.",
        "  last epoch: training loss 0.25, validation loss 0.3, validation metric 0.9",
        "  cache:      4 samples computed, 6 reused",
        "  files:      run",
        "  finding:    FL101 tip: vanishing gradients in 3",
    ]
    named = replace(full, history=(replace(scored, val_metrics={"accuracy": 0.9, "f1": 0.8}),))
    assert "validation loss 0.3, accuracy 0.9, f1 0.8" in str(named)


def test_findings_and_treatments_in_a_list_are_one_line_each():
    assert repr([FINDING]) == "[<FL101 issue: vanishing gradients in 3>]"
    assert repr((KEPT,)) == "(<Leaky ReLU (vanishing): kept: held-out loss 0.1 against 1 untreated.>,)"
    assert repr(Diagnosis((FINDING,), "vanishing", ())) == f"{FINDING}\nCause: vanishing"
