import pytest
import torch

from frostline.diagnosis.probes.classes import facts_of_classes, facts_of_numbers
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


def rows(target, inputs, size=50):
    return [(inputs[at : at + size], target[at : at + size]) for at in range(0, len(inputs), size)]


def table(count=600, features=8, seed=0):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def test_numbers_of_classes_follow_from_the_inputs_as_classes_only():
    inputs = table()
    which = inputs[:, :5].argmax(1)
    numbers = torch.tensor([2.0, 0.0, 4.0, 1.0, 3.0])[which]
    facts = facts_of_numbers(2 * rows(numbers[:, None], inputs))  # two epochs
    assert facts.count == 5
    assert facts.as_classes > 0.75
    assert facts.as_quantity < 0.5


@pytest.mark.parametrize(
    "quantity",
    [
        lambda x: torch.poisson((0.5 * x[:, 0] + 1).exp(), generator=torch.Generator().manual_seed(1)).clamp(max=5),
        lambda x: (2 * x[:, 0] + x[:, 1]).clamp(-2.4, 2.4).round(),
        lambda x: (3 * x[:, 0].sigmoid() + x[:, 1].sin().abs()).round(),
    ],
    ids="counts grades rounded".split(),
)
def test_a_quantity_in_whole_numbers_is_as_well_regressed(quantity):
    inputs = table(1000)
    facts = facts_of_numbers(rows(quantity(inputs), inputs))
    assert facts.as_classes - facts.as_quantity < 0.1


@pytest.mark.parametrize(
    ("target", "inputs"),
    [
        (torch.rand(600), table()),
        (torch.randint(2, (600,)).float(), table()),
        (torch.randint(5, (600,)), table()),
        (7.0 * torch.randint(5, (600,)), table()),
        (torch.randint(5, (600, 2)).float(), table()),
        (torch.randint(5, (60,)).float(), table(60)),
        (torch.randint(5, (600,)).float() * torch.nan, table()),
        (torch.randint(5, (600,)).float(), torch.zeros(600, 8, dtype=torch.long)),
    ],
    ids="real two classes gaps several few nan words".split(),
)
def test_other_targets_are_no_numbers(target, inputs):
    assert facts_of_numbers(rows(target, inputs)) is None
