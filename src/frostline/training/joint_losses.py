"""Losses of several heads at once, each equal to what the head's loss is alone.

Legend: B batch, C classes or outputs, K heads; the heads are on the last axis of every output.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frostline.training.losses import CrossEntropy, Loss, make_loss
from frostline.training.outputs import output_of

JointLoss = Callable[[Any, Any], Tensor]


def make_joint_loss(loss: str | Loss) -> JointLoss:
    """callable(outputs with the heads on their last axis, target) -> (K,) losses.

    Losses by name, and `CrossEntropy`, are computed in one call; any other is mapped over the heads by `torch.vmap`,
    which raises where that is impossible.
    """
    if loss == "cross_entropy":
        return partial(_cross_entropies, CrossEntropy())
    if isinstance(loss, CrossEntropy):
        return partial(_cross_entropies, loss)
    if loss == "mse":
        return partial(_means, lambda output, target: F.mse_loss(output, target, reduction="none"))
    if loss == "bce":
        return partial(_means, lambda output, target: F.binary_cross_entropy_with_logits(
            output, target, reduction="none"))  # fmt: skip
    return torch.vmap(make_loss(loss), in_dims=(-1, None), randomness="same")


def _cross_entropies(loss: CrossEntropy, outputs: Any, target: Any) -> Tensor:
    return loss.of_heads(output_of(outputs), target)


def _means(values_of: Callable[[Tensor, Tensor], Tensor], outputs: Any, target: Any) -> Tensor:
    outputs_BCK = output_of(outputs)
    shaped = torch.as_tensor(target)
    if shaped.shape == outputs_BCK.shape[:1] and outputs_BCK.shape[1:-1] == (1,):
        shaped = shaped.unsqueeze(1)
    every = shaped.to(outputs_BCK.dtype).unsqueeze(-1).expand_as(outputs_BCK)
    return values_of(outputs_BCK, every).flatten(0, -2).mean(0)
