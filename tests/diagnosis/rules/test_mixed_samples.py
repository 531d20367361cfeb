from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import mixed_samples
from frostline.diagnosis.rules.wiring_records import AxesFacts
from helpers_health import outcomes


def test_it_fires():
    assert outcomes(mixed_samples, Evidence(mixes=True)) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(mixed_samples, Evidence(mixes=False)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(mixed_samples, Evidence()) == ["not applicable"]


def test_what_was_found_to_run_over_the_samples_is_an_issue_and_named():
    axes = AxesFacts(over_samples=("layer 'r' (GRU, without batch_first)",))
    (finding,) = mixed_samples.check(Evidence(mixes=True, axes=axes))
    assert finding.outcome == "issue"
    assert "layer 'r' (GRU, without batch_first) runs over the samples" in finding.why
    assert outcomes(mixed_samples, Evidence(mixes=False, axes=axes)) == ["passed"]


def test_a_layer_over_the_samples_is_an_issue_where_nothing_is_learnt_though_no_output_shows_it():
    axes = AxesFacts(over_samples=("layer 'a' (TransformerEncoderLayer, without batch_first)",))
    (finding,) = mixed_samples.check(Evidence(mixes=False, axes=axes, skill=0.0))
    assert finding.outcome == "issue"
    assert outcomes(mixed_samples, Evidence(mixes=False, axes=axes, skill=0.6)) == ["passed"]


def test_outputs_that_change_with_the_place_in_the_batch_are_an_issue():
    (finding,) = mixed_samples.check(Evidence(mixes=False, is_placed=True))
    assert finding.outcome == "issue"
    assert "the same rows in another order get other outputs" in finding.why
    assert "edges of graph i" in finding.advice
    assert outcomes(mixed_samples, Evidence(mixes=False, is_placed=False)) == ["passed"]
