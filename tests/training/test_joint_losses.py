"""Losses of several heads at once, against the loss of each."""

import pytest
import torch
import torch.nn.functional as F

import frostline as fl
from frostline.training import CrossEntropy, make_joint_loss, make_loss

B, C, K = 8, 4, 5


def outputs(*shape):
    return torch.randn(*shape, K, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, -100])
MAPS = torch.arange(B * 6).reshape(B, 6) % C
ONE_HOT = F.one_hot(LABELS.clamp(min=0), C)
CASES = {
    "labels": ("cross_entropy", (C,), LABELS),
    "column": ("cross_entropy", (C,), LABELS[:, None]),
    "places": ("cross_entropy", (C, 6), MAPS),
    "one-hot": ("cross_entropy", (C,), ONE_HOT),
    "probabilities": ("cross_entropy", (C,), torch.full((B, C), 1 / C)),
    "weights": (CrossEntropy(torch.tensor([1.0, 2.0, 0.5, 3.0])), (C,), LABELS),
    "smooth": (CrossEntropy(torch.tensor([1.0, 2.0, 0.5, 3.0]), 0.1), (C,), LABELS),
    "smooth places": (CrossEntropy(None, 0.1), (C, 6), MAPS),
    "mse": ("mse", (1,), torch.randn(B)),
    "mse of many": ("mse", (C,), torch.randn(B, C)),
    "bce": ("bce", (C,), ONE_HOT),
    "bce of one": ("bce", (1,), LABELS.clamp(0, 1)),
    "torch's own": (torch.nn.CrossEntropyLoss(label_smoothing=0.1), (C,), LABELS),
    "a callable": (lambda output, target: (output.logsumexp(1) * target).mean(), (C,), torch.randn(B)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_head_has_the_loss_and_the_gradient_that_it_has_alone(case):
    loss, shape, target = CASES[case]
    joint = outputs(B, *shape).requires_grad_()
    found = make_joint_loss(loss)(joint, target)
    found.sum().backward()
    for at in range(K):
        own = joint.detach()[..., at].clone().requires_grad_()
        wanted = make_loss(loss)(own, target)
        wanted.backward()
        torch.testing.assert_close(found[at], wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(joint.grad[..., at], own.grad, rtol=1e-5, atol=1e-6)


def test_a_container_is_looked_into():
    found = make_joint_loss("cross_entropy")({"logits": outputs(B, C)}, LABELS)
    assert torch.equal(found, make_joint_loss("cross_entropy")(outputs(B, C), LABELS))


def test_a_label_that_is_no_class_is_told():
    with pytest.raises(fl.DataError, match="outside of the range"):
        make_joint_loss("cross_entropy")(outputs(B, C), LABELS.clamp(min=0) + 7)
    with pytest.raises(fl.DataError, match="There is no loss named"):
        make_joint_loss("crossentropy")
