import pytest
import torch
from torch.nn import functional as F

from frostline.diagnosis.probes.loss_terms import facts_of_terms


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


LABELS_B = (torch.arange(320) % 20 == 0).long()
TEACHER = torch.cat([drawn(32, 4), (torch.arange(32) % 4)[:, None].float()], 1)


def distilled(output, target, compares_itself):
    teacher = target[:, :4]
    student = teacher if compares_itself else output
    soft = F.kl_div(student.log_softmax(1), teacher.sigmoid(), reduction="batchmean")
    return soft + F.cross_entropy(output, target[:, 4].long())


@pytest.mark.parametrize(("compares_itself", "count"), [(True, 4), (False, 0)])
def test_a_term_without_an_output_is_found(compares_itself, count):
    facts = facts_of_terms(lambda o, t: distilled(o, t, compares_itself), drawn(32, 4), [(None, TEACHER)])
    assert facts.columns == (count, 0, 5)


def test_columns_that_the_loss_does_not_read_are_counted():
    facts = facts_of_terms(lambda o, t: F.cross_entropy(o, t[:, 4].long()), drawn(32, 4), [(None, TEACHER)])
    assert facts.columns == (0, 4, 5)


def test_columns_of_one_value_say_nothing():
    words = torch.cat([torch.arange(96).view(32, 3) % 5, torch.zeros(32, 4, dtype=torch.long)], 1)  # and padding
    facts = facts_of_terms(lambda o, t: F.cross_entropy(o, t, ignore_index=0), drawn(32, 5, 7), [(None, words)])
    assert facts.columns == (0, 0, 7)


def test_the_weights_of_classes_are_read_of_the_loss():
    weight = torch.tensor([1.0, 0.05])
    data = [(None, LABELS_B)]
    facts = facts_of_terms(lambda o, t: F.cross_entropy(o, t, weight=weight), drawn(320, 2), data)
    assert [(one, round(share, 3)) for one, share, _ in facts.weights] == [(1, 0.05), (0, 0.95)]
    assert facts.weights[0][2] == pytest.approx(0.05, rel=1e-4)
    alike = facts_of_terms(F.cross_entropy, drawn(320, 2), data).weights
    assert [weight for *_, weight in alike] == pytest.approx([1.0, 1.0])


def test_weights_of_a_binary_loss_are_read_and_real_targets_are_left_alone():
    target = LABELS_B.float()[:, None]
    positive = torch.tensor([10.0])
    facts = facts_of_terms(
        lambda o, t: F.binary_cross_entropy_with_logits(o, t, pos_weight=positive), drawn(320, 1), [(None, target)]
    )
    assert facts.weights[0][2] == pytest.approx(1.0)
    assert facts.weights[1][2] == pytest.approx(0.1)
    assert facts_of_terms(F.mse_loss, drawn(320, 1), [(None, drawn(320, 1))]).weights == ()


@pytest.mark.parametrize(("temperature", "room"), [(1.0, 1.1), (0.5, None), (0.1, None)])
def test_cosines_without_a_temperature_leave_little_room(temperature, room):
    def contrast(output, _):
        return F.cross_entropy(output[:, 0] @ output[:, 1].T / temperature, torch.arange(len(output)))

    facts = facts_of_terms(contrast, F.normalize(drawn(64, 2, 16), dim=-1), [(None, torch.arange(64))])
    assert facts.logit_range == (None if room is None else pytest.approx(room, abs=0.25))
    assert facts_of_terms(contrast, drawn(64, 2, 16), [(None, torch.arange(64))]).logit_range is None


def test_a_loss_that_can_fall_has_room():
    unit = F.normalize(drawn(32, 8), dim=1)
    assert facts_of_terms(lambda o, t: 1 - F.cosine_similarity(o, t).mean(), unit, [(None, unit)]).logit_range is None
    assert facts_of_terms(lambda o, t: o.no_such(), unit, [(None, unit)]).logit_range is None


def test_losses_that_compare_rows_are_asked_of_one_batch():
    """All triplets of a thousand rows take gigabytes."""
    sizes = []

    def triplets(output, target):
        sizes.append(len(output))
        distance = torch.cdist(output, output)
        room = (distance[:, :, None] - distance[:, None, :] + 0.3).relu()
        same = target[:, None] == target
        return (room * (same[:, :, None] & ~same[:, None, :])).mean()

    data = [(None, torch.randint(3, (32,))) for _ in range(40)]
    facts_of_terms(triplets, torch.randn(32, 8), data)
    assert max(sizes) == 32

    def by_class(output, target):
        sizes.append(len(output))
        return F.cross_entropy(output, target, weight=torch.tensor([1.0, 2.0, 3.0]))

    facts_of_terms(by_class, torch.randn(32, 3), data)
    assert max(sizes) > 900
