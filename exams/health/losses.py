"""Losses by name: the right ones, and the ones that do not fit what the network gives out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def double_softmax(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, which takes logits, of probabilities."""
    return F.cross_entropy(output.softmax(-1), target)


def nll_of_logits(output: Tensor, target: Tensor) -> Tensor:
    """NLL, which takes log-probabilities, of raw logits: it has no lower bound."""
    return F.nll_loss(output, target)


def nll_of_probabilities(output: Tensor, target: Tensor) -> Tensor:
    """NLL, which takes log-probabilities, of probabilities: its slope does not grow where it is wrong."""
    return F.nll_loss(output.softmax(-1), target)


def mse_of_index(output: Tensor, target: Tensor) -> Tensor:
    """Squared distance of every output from the class number: all outputs are pulled to the same value."""
    return F.mse_loss(output, target[:, None].expand_as(output).to(output.dtype))


def sigmoid_to_unreachable(output: Tensor, target: Tensor) -> Tensor:
    """Squared distance of a sigmoid, which stays in 0..1, from targets of -4 and 5: it can only saturate."""
    wanted = F.one_hot(target, output.shape[-1]) * 9.0 - 4.0
    return F.mse_loss(output.sigmoid(), wanted.to(output.dtype))


def log_of_rounded(temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy of both outcomes by plain logarithms: log(1 - p) is -inf once p rounds to 1."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        p = (output * temperature).softmax(-1)
        wanted = F.one_hot(target, output.shape[-1]).to(output.dtype)
        return -(wanted * p.log() + (1 - wanted) * (1 - p).log()).sum(-1).mean()

    return loss


def half_softmax(temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy whose exponentials are taken in float16: they overflow beyond 11."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        powers = (output * temperature).half().exp()
        p = powers / powers.sum(-1, keepdim=True)
        return F.nll_loss(p.float().clamp_min(1e-7).log(), target)

    return loss


def scaled(factor: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy times a factor, as accumulation or a sum over positions would give. With Adam all is well."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target) * factor

    return loss


def smoothed(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with label smoothing: it never comes near zero."""
    return F.cross_entropy(output, target, label_smoothing=0.2)


def mse_one_hot(output: Tensor, target: Tensor) -> Tensor:
    """Squared distance from one-hot targets: unusual for classes, and sound."""
    return F.mse_loss(output, F.one_hot(target, output.shape[-1]).to(output.dtype))


def hinge(output: Tensor, target: Tensor) -> Tensor:
    """Multi-class hinge: exactly zero gradient for every row that is right by the margin."""
    return F.multi_margin_loss(output, target)


def focal(output: Tensor, target: Tensor) -> Tensor:
    """Focal loss, gamma 2: tiny gradients for easy rows."""
    each = F.cross_entropy(output, target, reduction="none")
    return ((1 - (-each).exp()) ** 2 * each).mean()


def huber(output: Tensor, target: Tensor) -> Tensor:
    """Huber loss, for regression."""
    return F.huber_loss(output, target)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "bce": F.binary_cross_entropy_with_logits,
    "huber": huber,
    "smoothed": smoothed,
    "mse_one_hot": mse_one_hot,
    "hinge": hinge,
    "focal": focal,
    "quarter": scaled(0.25),
    "thousandth": scaled(1e-3),
    "thousandfold": scaled(1e3),
    "double_softmax": double_softmax,
    "nll_of_logits": nll_of_logits,
    "nll_of_probabilities": nll_of_probabilities,
    "mse_of_index": mse_of_index,
    "sigmoid_to_unreachable": sigmoid_to_unreachable,
    "log_of_rounded_1": log_of_rounded(1.0),
    "log_of_rounded_4": log_of_rounded(4.0),
    "log_of_rounded_16": log_of_rounded(16.0),
    "half_softmax_1": half_softmax(1.0),
    "half_softmax_4": half_softmax(4.0),
    "half_softmax_16": half_softmax(16.0),
}
FAULTY = frozenset(
    name
    for name in LOSSES
    if name.startswith(("double", "nll_of", "mse_of", "sigmoid_to", "log_of_rounded", "half_softmax"))
)


def score(output: Tensor, target: Tensor) -> float:
    """Accuracy for classes, share of right labels for several labels, R² (at least 0) for real targets."""
    output = output.float()
    if not torch.isfinite(output).all():
        return 0.0
    if target.dtype == torch.long:
        return (output.argmax(-1) == target).float().mean().item()
    if ((target == 0) | (target == 1)).all():
        return ((output > 0) == (target > 0.5)).float().mean().item()
    return max(0.0, (1 - (output - target).square().mean() / target.var(correction=0)).item())
