import pytest
import torch

from frostline.diagnosis.probes.rows import facts_of_rows


def rows(inputs, target, size=16):
    return [(inputs[at : at + size], target[at : at + size]) for at in range(0, len(inputs), size)]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("change", [lambda x: x, lambda x: -3 * x + 1])
def test_a_feature_that_is_the_target_is_found(change):
    inputs = drawn(320, 6)
    facts = facts_of_rows(rows(inputs, change(inputs[:, 4:5])))
    assert (facts.answer_at, facts.num_features) == (4, 6)
    assert facts_of_rows(rows(inputs, change(inputs[:, 4:5]) + 0.01 * drawn(320, 1, seed=1))).answer_at is None


def test_a_label_that_stands_in_a_table_is_found_and_a_lesson_is_not():
    inputs, label = drawn(320, 6), torch.arange(320) % 3
    inputs[:, 2] = label.float()
    assert facts_of_rows(rows(inputs, label)).answer_at == 2
    line = drawn(320, 1)
    assert facts_of_rows(rows(line, 2 * line)).answer_at is None


def test_inputs_with_several_targets_are_counted():
    pairs = torch.stack([torch.arange(320) % 20, torch.arange(320) % 5], 1)
    target = (torch.arange(320) >= 160).float()[:, None]
    facts = facts_of_rows(rows(pairs, target))
    assert (facts.torn, facts.torn_targets) == (1.0, (0.0, 1.0))
    assert facts_of_rows(rows(pairs, (pairs[:, :1] > 9).float())).torn == 0.0


def test_a_unit_that_changes_is_seen_at_both_ends():
    inputs = drawn(640, 4)
    inputs[320:] *= 10
    facts = facts_of_rows(rows(inputs, torch.arange(640) % 2))
    assert facts.last_size == pytest.approx(10 * facts.first_size, rel=0.3)


def test_other_rows_are_left_alone():
    whole = facts_of_rows(rows(drawn(64, 3, 8), drawn(64, 3, 8)))
    assert (whole.num_features, whole.answer_at, whole.torn) == (0, None, 0.0)
    assert facts_of_rows([(drawn(16, 3), None)]).num_features == 0
    words = torch.arange(320) % 7
    assert facts_of_rows(rows(words, (words > 2).float())).num_features == 1
