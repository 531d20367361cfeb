import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.experiments.plain_parts import PlainNetwork, shaped, usual_loss

IMAGES, SERIES, WORDS = torch.randn(6, 3, 8, 8), torch.randn(6, 5, 4), torch.randint(9, (6, 5))


@pytest.mark.parametrize(
    ("inputs", "shape"),
    [
        (torch.randn(6, 7), (6, 3)), (IMAGES, (6, 10)), (IMAGES, (6, 2, 8, 8)), (SERIES, (6, 3)), (SERIES, (6, 5, 2)),
        (SERIES, (6, 2, 5)), (WORDS, (6, 3)), (WORDS, (6, 5, 9)), (WORDS, (6, 9, 5)), (torch.arange(6), (6, 1)),
        ((torch.randn(6, 2), {"ids": WORDS}), (6, 4)), (torch.randn(6, 7), (6,)),
    ],
)  # fmt: skip
def test_it_gives_the_shape_of_the_other_network(inputs, shape):
    network = PlainNetwork([(inputs, None)], torch.zeros(shape))
    assert network(inputs).shape == shape
    assert bool(torch.isfinite(network(inputs)).all())


def test_inputs_of_another_kind_are_refused():
    for inputs in (torch.zeros(3, 2), torch.zeros(6, 2, dtype=torch.complex64), -WORDS - 1, torch.zeros(6, 70_000)):
        with pytest.raises(ValueError, match=r"inputs|whole numbers"):
            PlainNetwork([(inputs, None)], torch.zeros(6, 2))


def test_the_usual_loss_fits_what_a_model_gives():
    logits, target = torch.randn(8, 3), torch.arange(8) % 3
    expected = F.cross_entropy(logits, target)
    for output in (logits, logits.log_softmax(1), logits.softmax(1)):
        name, loss_fn = usual_loss(output, target)
        assert name == "cross_entropy"
        torch.testing.assert_close(loss_fn(output, target), expected)
    labels = (torch.randn(8, 3) > 0).float()
    assert usual_loss(logits, labels)[0] == "binary_cross_entropy_with_logits"
    name, loss_fn = usual_loss(logits.requires_grad_().sigmoid(), labels)
    assert name == "binary_cross_entropy"
    torch.testing.assert_close(loss_fn(logits.sigmoid(), labels), F.binary_cross_entropy_with_logits(logits, labels))
    assert usual_loss(logits, 100 * torch.randn(8, 3))[0] == "mse_loss"
    for target in (None, torch.randn(8, 4), torch.arange(8) + 7):
        assert usual_loss(logits, target) is None


def test_it_is_given_the_last_function_of_the_other():
    plain, logits, target = nn.Identity(), torch.randn(8, 3), torch.arange(8) % 3
    assert shaped(plain, logits, target) is plain
    for given in (logits.softmax(1), logits.log_softmax(1)):
        torch.testing.assert_close(shaped(plain, given, target)(logits), given)
    given = logits.requires_grad_().sigmoid()
    torch.testing.assert_close(shaped(plain, given, torch.rand(8, 3))(logits), given)
