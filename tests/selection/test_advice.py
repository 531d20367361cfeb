from frostline.core.selection_records import DepthRow
from frostline.selection import choose


def rows(*scores, inputs=0.4, error=0.02, **more):
    lines = [DepthRow(f"block{at}", probe=score, probe_error=error, **more) for at, score in enumerate(scores)]
    return [DepthRow(None, probe=inputs, probe_error=error), *lines]


def test_the_deepest_line_within_one_standard_error_of_the_best():
    found = choose(rows(0.6, 0.8, 0.79, 0.7), "accuracy", 0.25, 500)
    assert found.best == "block2"
    assert "Freeze through 'block2' and train what is above it" in found.advice
    assert "at 'block3' the score is 0.090 lower" in found.advice
    assert "accuracy 0.800 ± 0.020 at 'block1', of 500 samples" in found.reason


def test_a_curve_that_rises_to_the_end_replaces_the_output_layer_only():
    found = choose(rows(0.5, 0.6, 0.7, 0.9), "accuracy", 0.25, 500)
    assert found.best == "block3"
    assert found.advice.startswith("Replace the output layer only, and freeze everything below it")
    assert "Features still improve up to there: 'block2' has 0.700." in found.advice


def test_inputs_that_tell_more_than_any_line_train_everything():
    found = choose(rows(0.5, 0.7, 0.6, inputs=0.73), "accuracy", 0.25, 500)
    assert found.best is None
    assert found.advice.startswith("Train everything, from the pretrained weights on")
    assert "0.730 ± 0.020" in found.reason
    assert "'block1', 0.700" in found.reason
    assert "The linear model on the inputs is the baseline to beat" in found.advice


def test_a_line_as_good_as_the_inputs_is_the_cheaper_one():
    found = choose(rows(0.5, 0.72, 0.6, inputs=0.73), "accuracy", 0.25, 500)
    assert found.best == "block1"
    assert "0.730 ± 0.020 of the inputs" in found.reason


def test_scores_like_a_constant_prediction_say_too_few_samples_or_another_model():
    few = choose(rows(0.5, 0.52, inputs=0.5, error=0.06), "accuracy", 0.5, 40)
    assert few.best is None
    assert few.advice.startswith("Too few samples for a choice")
    many = choose(rows(0.5, 0.505, inputs=0.5, error=0.004), "accuracy", 0.5, 9000)
    assert many.advice.startswith("Train everything, or start from another model")


def test_intervals_that_overlap_are_said():
    found = choose(rows(0.79, 0.8, 0.81, error=0.05), "accuracy", 0.25, 60)
    assert found.best == "block2"
    assert "All lines are within one standard error of each other" in found.advice
    some = choose(rows(0.6, 0.8, 0.81, error=0.05), "accuracy", 0.25, 60)
    assert "Too few samples to separate this line from 'block1'" in some.advice


def test_lines_that_cannot_be_frozen_are_never_chosen():
    table = rows(0.6, 0.8)
    table.append(DepthRow("block2", probe=0.95, probe_error=0.01, why_not="runs again"))
    assert choose(table, "accuracy", 0.25, 500).best == "block1"


def test_the_distance_to_the_data_of_the_pretraining_is_said_with_its_number():
    near, far = (choose(rows(0.6, 0.8, energy=e), "accuracy", 0.25, 500).advice for e in (1.1, 3.5))
    assert "do not set these data apart from those of the pretraining" in near
    assert "1.10 times the mean square" in near
    assert "far from those of the pretraining" in far
    assert "3.50 times the mean square" in far


def test_what_a_cache_saves_is_said():
    found = choose(rows(0.6, 0.8, epoch_s=50.0, cached_epoch_s=5.0), "accuracy", 0.25, 500)
    assert "10.0 times as long without a cache" in found.advice


def test_lines_that_may_be_as_good_are_named_for_those_who_want_accuracy():
    found = choose(rows(0.6, 0.79, 0.8, 0.795, error=0.015), "accuracy", 0.25, 900)
    assert found.best == "block3"
    assert "Too few samples" not in found.advice  # they are as good, to a point
    assert "compare with a freeze through 'block1' only" in found.advice
    assert "still improve" not in found.advice
    alone = choose(rows(0.6, 0.7, 0.9), "accuracy", 0.25, 900).advice
    assert "If accuracy counts more" not in alone
