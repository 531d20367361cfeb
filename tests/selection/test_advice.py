from dataclasses import replace

from frostline.core.selection_records import DepthRow
from frostline.selection import choose


def rows(*reaches, inputs=0.3, error=0.02, **more):
    """Lines that reach so much; probes have 0.25 more, with the same error."""
    best = max(reaches + ((inputs,) if inputs is not None else ()))
    return [
        DepthRow(name, probe=None if reach is None else reach + 0.25, probe_error=error, reachable=reach,
                 reachable_error=0.0 if reach == best else error, **(more if name else {}))
        for name, reach in [(None, inputs), *((f"block{at}", reach) for at, reach in enumerate(reaches))]
    ]  # fmt: skip


def test_the_deepest_line_that_reaches_as_much_as_any():
    found = choose(rows(0.4, 0.6, 0.59, 0.5, 0.2), "accuracy", 0.25, 500)
    assert found.best == "block2"
    assert "Freeze through 'block2' and train what is above it" in found.advice
    assert (
        "0.590 of the targets' variance (R2), within one standard error of the most (0.600 at 'block1')" in found.advice
    )
    assert "their outputs alone explain less (0.500 at 'block3', 0.200 with the output layer only)" in found.advice
    assert "R2 0.590, of 500 samples" in found.reason


def test_a_curve_that_rises_to_the_end_replaces_the_output_layer_only():
    found = choose(rows(0.3, 0.4, 0.5, 0.7), "accuracy", 0.25, 500)
    assert found.best == "block3"
    assert found.advice.startswith("Replace the output layer only, and freeze everything below it")
    assert "Features still add something up to there: 'block2' has 0.500." in found.advice


def test_inputs_that_add_to_every_line_train_everything():
    found = choose(rows(0.4, 0.5, 0.45, inputs=0.53), "accuracy", 0.25, 500)
    assert found.best is None
    assert found.advice.startswith("Train everything, from the pretrained weights on")
    assert "explain 0.530 of the targets' variance" in found.reason
    assert "'block1', 0.500 (0.030 ± 0.020 less)" in found.reason
    assert "has accuracy 0.780, more than on the features of any line: it is the baseline to beat" in found.advice


def test_inputs_that_add_something_and_are_weak_alone_are_no_baseline():
    table = rows(0.4, 0.5, 0.45, inputs=0.53)
    table[0] = replace(table[0], probe=0.4)
    found = choose(table, "accuracy", 0.25, 500)
    assert found.best is None
    assert "baseline to beat" not in found.advice


def test_a_line_as_good_as_the_inputs_is_the_cheaper_one():
    found = choose(rows(0.4, 0.52, 0.4, inputs=0.53), "accuracy", 0.25, 500)
    assert found.best == "block1"
    assert "(0.530 with the inputs)" in found.advice


def test_inputs_without_features_of_their_own_are_no_line():
    found = choose(rows(0.4, 0.52, 0.4, inputs=None), "accuracy", 0.25, 500)
    assert found.best == "block1"


def test_scores_like_a_constant_prediction_say_too_few_samples_or_another_model():
    few = choose(rows(0.2, 0.22, inputs=0.2, error=0.06), "accuracy", 0.5, 40)
    assert few.best is None
    assert few.advice.startswith("Too few samples for a choice")
    many = choose(rows(0.2, 0.205, inputs=0.2, error=0.004), "accuracy", 0.5, 9000)
    assert many.advice.startswith("Train everything, or start from another model")


def test_where_hardly_an_error_is_left_nothing_below_has_to_train():
    table = rows(0.6, 0.7, 0.5, error=0.01)
    table[-1] = replace(table[-1], probe=0.995, probe_error=0.006)
    found = choose(table, "accuracy", 0.25, 500)
    assert found.best == "block2"
    assert found.advice.startswith("Replace the output layer only")
    assert "accuracy 0.995 ± 0.006" in found.reason
    table[-2] = replace(table[-2], probe=1.0)
    table[-1] = replace(table[-1], probe=0.9)
    middle = choose(table, "accuracy", 0.25, 500)
    assert middle.best == "block1"
    assert middle.advice.startswith("Freeze through 'block1' and train what is above it: a linear probe there has")


def test_lines_that_cannot_be_separated_are_said():
    found = choose(rows(0.49, 0.5, 0.51, error=0.05), "accuracy", 0.25, 60)
    assert found.best == "block2"
    assert "All lines are within one standard error of each other" in found.advice
    assert "These are few samples: a linear probe has accuracy 0.760 ± 0.050 at 'block2'" in found.advice
    some = choose(rows(0.3, 0.5, 0.51, 0.4, error=0.05), "accuracy", 0.25, 60)
    assert "compare with a freeze through 'block1' only" in some.advice


def test_lines_that_cannot_be_frozen_are_never_chosen():
    table = rows(0.3, 0.5)
    table.append(DepthRow("block2", probe=0.95, probe_error=0.01, reachable=0.9, why_not="runs again"))
    assert choose(table, "accuracy", 0.25, 500).best == "block1"


def test_the_distance_to_the_data_of_the_pretraining_is_said_with_its_number():
    near, far = (choose(rows(0.3, 0.5, energy=e), "accuracy", 0.25, 500).advice for e in (1.1, 3.5))
    assert "not far from those of the pretraining" in near
    assert "1.10 times the mean square" in near
    assert "far from those of the pretraining" in far
    assert "3.50 times the mean square" in far
    assert "compare with a lower line" in far
    everything = choose(rows(0.3, 0.5, inputs=0.6, energy=3.5), "accuracy", 0.25, 500)
    assert everything.best is None
    assert "far from those of the pretraining" in everything.advice
    assert "compare with a lower line" not in everything.advice


def test_what_a_cache_saves_is_said():
    found = choose(rows(0.3, 0.5, epoch_s=50.0, cached_epoch_s=5.0), "accuracy", 0.25, 500)
    assert "10.0 times as long without a cache" in found.advice


def test_lines_that_may_be_as_good_are_named_for_those_who_want_accuracy():
    found = choose(rows(0.3, 0.49, 0.5, 0.495, error=0.015), "accuracy", 0.25, 900)
    assert found.best == "block3"
    assert "few samples" not in found.advice
    assert "compare with a freeze through 'block1' only" in found.advice
    assert "still add" not in found.advice
    alone = choose(rows(0.3, 0.4, 0.6), "accuracy", 0.25, 900).advice
    assert "If accuracy counts more" not in alone
