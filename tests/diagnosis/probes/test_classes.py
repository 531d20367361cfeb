import pytest
import torch

from frostline.diagnosis.probes.classes import facts_of_classes
from helpers_health import CLASSES, task


def of_targets(*targets):
    return facts_of_classes([(torch.zeros(len(target), 2), target) for target in targets])


def test_shuffled_batches_hold_what_is_expected():
    facts = facts_of_classes(task(40))
    assert facts.count == CLASSES
    assert facts.per_batch == pytest.approx(facts.if_shuffled, rel=0.05)


def test_sorted_batches_hold_one_class():
    facts = of_targets(*[torch.full((16,), at // 5) for at in range(20)])
    assert (facts.count, facts.per_batch) == (4, 1.0)
    assert facts.if_shuffled == pytest.approx(4 * (1 - 0.75**16))


def test_one_class_and_labels_that_are_ignored():
    facts = of_targets(torch.tensor([3, 3, 3, -100]), torch.tensor([3, 3, 3, 3]))
    assert (facts.count, facts.first) == (1, 3)


@pytest.mark.parametrize("target", [torch.zeros(8), torch.zeros(8, 2, dtype=torch.long), torch.full((8,), -100)])
def test_other_targets_are_no_classes(target):
    assert of_targets(target, target) is None


def test_single_samples_say_nothing_about_their_order():
    facts = of_targets(torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert (facts.count, facts.per_batch, facts.if_shuffled) == (2, None, None)
