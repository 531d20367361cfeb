"""Linear heads as one: a single output layer with the outputs of all of them, one matrix product per batch.

Legend: B batch, C outputs of a head, K heads, D inputs of the output layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frostline.core.layers import submodule
from frostline.selection.heads.contract import Features, Heads, Ways
from frostline.selection.heads.noise import OwnNoise
from frostline.selection.heads.scaled_steps import ScaledSteps
from frostline.selection.variants import with_module

if TYPE_CHECKING:
    from frostline.selection.head_settings import HeadSetting


class JointLinear(nn.Module):
    """The output layers of K heads: x (..., D) becomes (..., C, K).

    Args:
        weights: (C, D) of each head.
        biases: (C,) of each head, or None.
        dropout: Probability of noise on the inputs, the same for all heads.
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor] | None, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([one.detach() for one in weights], dim=1))  # (C, K, D)
        self.bias = nn.Parameter(torch.stack([one.detach() for one in biases], dim=1)) if biases else None  # (C, K)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of all heads, the heads on the last axis."""
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        bias = self.bias.flatten() if self.bias is not None else None
        return F.linear(x, self.weight.flatten(0, 1), bias).unflatten(-1, self.weight.shape[:2])


class FlatHeads(Heads):
    """Heads whose only trainable layer is the output layer, a linear one whose output is the head's.

    Args:
        heads: Copies of one head, as many as settings; the first one's other layers serve all.
        layer: The qualified name of the output layer.
        settings: Of the heads, in order.
        ways: Loss and optimizers.
        is_noisy: The heads draw random numbers in training, all the same ones.
    """

    way = "flat"

    def __init__(
        self, heads: Sequence[nn.Module], layer: str, settings: Sequence[HeadSetting], ways: Ways, *, is_noisy: bool
    ) -> None:
        super().__init__(settings)
        own: list[Any] = [submodule(head, layer) for head in heads]
        biases = [one.bias for one in own] if own[0].bias is not None else None
        self._joint = JointLinear([one.weight for one in own], biases, getattr(own[0], "dropout", 0.0))
        self._names = [f"{layer}.{leaf}" if layer else leaf for leaf in ("weight", "bias")]
        self._head = with_module(heads[0], layer, self._joint)
        self._ways = ways
        self._steps = ScaledSteps(self._parameters(), 1, settings, ways.make_optimizer)
        self._noise = OwnNoise(settings[0].seed, is_drawn=is_noisy)

    def step(self, features: Features, target: Any) -> Tensor:
        """As in the contract."""
        self._head.train()
        with self._noise:
            output = self._head(*features)
        losses_K = self._ways.joint_loss(output, target)
        losses_K.sum().backward()
        self._steps.step()
        return losses_K.detach()

    def evaluate(self, features: Features, target: Any) -> tuple[Tensor, list[Any]]:
        """As in the contract."""
        self._head.eval()
        with torch.no_grad():
            output = self._head(*features)
            return self._ways.joint_loss(output, target), list(output.movedim(-1, 0).contiguous())

    def state(self, at: int) -> dict[str, Tensor]:
        """As in the contract; all heads have the buffers of the first."""
        own = [p.detach()[:, at].clone() for p in self._parameters()]
        return dict(zip(self._names, own, strict=False))

    def keep(self, places: Sequence[int]) -> None:
        """As in the contract."""
        self.settings = [self.settings[at] for at in places]
        index = torch.tensor(places, device=self._joint.weight.device)
        for leaf in ("weight", "bias"):
            old = getattr(self._joint, leaf)
            if old is not None:
                setattr(self._joint, leaf, nn.Parameter(old.detach().index_select(1, index)))
        self._steps.keep(self._parameters(), places, self.settings)

    def _parameters(self) -> list[Tensor]:
        return [p for p in (self._joint.weight, self._joint.bias) if p is not None]
