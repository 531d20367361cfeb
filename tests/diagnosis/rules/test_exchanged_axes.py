from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import exchanged_axes
from frostline.diagnosis.rules.wiring_records import AxesFacts
from helpers_health import outcomes

EXCHANGED = AxesFacts(exchanged=(((32, 50, 6), (32, 6, 50)),))


def test_it_fires():
    (finding,) = exchanged_axes.check(Evidence(axes=EXCHANGED, skill=0.0))
    assert (finding.outcome, finding.family) == ("issue", "reshape")
    assert "(32, 50, 6) into (32, 6, 50)" in finding.why
    assert outcomes(exchanged_axes, Evidence(axes=EXCHANGED, skill=0.7)) == ["tip"]  # sizes may agree by chance


def test_it_stays_quiet():
    assert outcomes(exchanged_axes, Evidence(axes=AxesFacts())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(exchanged_axes, Evidence()) == ["not judged"]


def test_places_that_a_loss_reads_as_classes_are_an_issue_with_the_line():
    facts = AxesFacts(scattered=(((32, 3, 16, 16), (8192, 3)),))
    (finding,) = exchanged_axes.check(Evidence(axes=facts, skill=0.7))
    assert finding.outcome == "issue"
    assert "(32, 3, 16, 16) as rows of shape (8192, 3)" in finding.why
    assert "output.permute(0, 2, 3, 1).reshape(-1, 3)" in finding.advice


def test_a_softmax_over_another_axis_than_that_which_is_summed():
    facts = AxesFacts(unweighed=(((32, 8, 8), 1, 2),))
    (finding,) = exchanged_axes.check(Evidence(axes=facts, skill=0.2))
    assert finding.outcome == "issue"
    assert (
        "a softmax over axis 1 gives weights of shape (32, 8, 8), and a product sums over their axis 2" in finding.why
    )
    assert outcomes(exchanged_axes, Evidence(axes=facts, skill=0.9)) == ["tip"]
