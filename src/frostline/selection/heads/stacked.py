"""Heads of any architecture as one: their weights stacked, the forward mapped over them by `torch.func.vmap`.

Legend: K heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.selection.heads.contract import Features, Heads, Ways
from frostline.selection.heads.noise import OwnNoise
from frostline.selection.heads.scaled_steps import ScaledSteps

if TYPE_CHECKING:
    from frostline.selection.head_settings import HeadSetting


class StackedHeads(Heads):
    """Heads whose forward torch can map over their weights, and that move no buffers.

    Args:
        heads: Copies of one head, as many as settings.
        settings: Of the heads, in order; all with the same noise.
        ways: Loss and optimizers.
        is_noisy: The heads draw random numbers in training.
    """

    way = "stacked"

    def __init__(
        self, heads: Sequence[nn.Module], settings: Sequence[HeadSetting], ways: Ways, *, is_noisy: bool
    ) -> None:
        super().__init__(settings)
        self._base, self._ways = heads[0], ways
        trained = [name for name, p in heads[0].named_parameters() if p.requires_grad]
        tables = [dict(head.named_parameters()) for head in heads]
        self._weights = {
            name: torch.stack([table[name].detach() for table in tables]).requires_grad_() for name in trained
        }
        self._steps = ScaledSteps(list(self._weights.values()), 0, settings, ways.make_optimizer)
        self._noise = OwnNoise(settings[0].seed, is_drawn=is_noisy)

    def step(self, features: Features, target: Any) -> Tensor:
        """As in the contract."""
        self._base.train()
        with self._noise:
            outputs = self._outputs(features)
        losses_K = self._ways.joint_loss(outputs, target)
        losses_K.sum().backward()
        self._steps.step()
        return losses_K.detach()

    def evaluate(self, features: Features, target: Any) -> tuple[Tensor, list[Any]]:
        """As in the contract."""
        self._base.eval()
        with torch.no_grad():
            outputs = self._outputs(features)
            own = [batches.map_tensors(outputs, lambda x, at=at: x[..., at]) for at in range(len(self.settings))]
            return self._ways.joint_loss(outputs, target), own

    def state(self, at: int) -> dict[str, Tensor]:
        """As in the contract; the buffers do not move."""
        return {name: weights.detach()[at].clone() for name, weights in self._weights.items()}

    def keep(self, places: Sequence[int]) -> None:
        """As in the contract."""
        self.settings = [self.settings[at] for at in places]
        index = torch.tensor(places, device=next(iter(self._weights.values())).device)
        self._weights = {
            name: old.detach().index_select(0, index).requires_grad_() for name, old in self._weights.items()
        }
        self._steps.keep(list(self._weights.values()), places, self.settings)

    def _outputs(self, features: Features) -> Any:
        def run(weights: Mapping[str, Tensor]) -> Any:
            return torch.func.functional_call(self._base, dict(weights), features)

        mapped = torch.vmap(run, randomness="same")(self._weights)
        return batches.map_tensors(mapped, lambda x: x.movedim(0, -1))
