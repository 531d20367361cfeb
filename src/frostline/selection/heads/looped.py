"""Heads of any kind, one after the other on the same batch, each with an optimizer of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.steps import check_loss, take_step
from frostline.selection.heads.contract import Features, Heads, Ways
from frostline.selection.heads.noise import OwnNoise

if TYPE_CHECKING:
    from frostline.selection.head_settings import HeadSetting


class LoopedHeads(Heads):
    """Heads that are trained as each would be alone.

    Args:
        heads: One module for each setting; they share nothing that training changes.
        settings: Of the heads, in order.
        ways: Loss and optimizers.
    """

    way = "looped"

    def __init__(self, heads: Sequence[nn.Module], settings: Sequence[HeadSetting], ways: Ways) -> None:
        super().__init__(settings)
        self._heads, self._ways = list(heads), ways
        self._optimizers = [
            ways.make_optimizer(one.optimizer, [p for p in head.parameters() if p.requires_grad], one.lr,
                                one.weight_decay)
            for head, one in zip(heads, settings, strict=True)
        ]  # fmt: skip
        self._noises = [OwnNoise(setting.seed) for setting in settings]

    def step(self, features: Features, target: Any) -> Tensor:
        """As in the contract."""
        losses: list[Tensor] = []
        for head, optimizer, noise in zip(self._heads, self._optimizers, self._noises, strict=True):
            head.train()
            with noise:
                loss = self._ways.loss(head(*features), target)
                check_loss(loss, "sweep(loss=...)")
                loss.backward()
                take_step(optimizer)
            optimizer.zero_grad()
            losses.append(loss.detach().reshape(()))
        return torch.stack(losses)

    def evaluate(self, features: Features, target: Any) -> tuple[Tensor, list[Any]]:
        """As in the contract."""
        outputs: list[Any] = []
        with torch.no_grad():
            for head in self._heads:
                head.eval()
                outputs.append(head(*features))
            return torch.stack([self._ways.loss(output, target).reshape(()) for output in outputs]), outputs

    def state(self, at: int) -> dict[str, Tensor]:
        """As in the contract."""
        head = self._heads[at]
        trained = {name: p for name, p in head.named_parameters() if p.requires_grad}
        return {name: t.detach().clone() for name, t in (*trained.items(), *head.named_buffers())}

    def keep(self, places: Sequence[int]) -> None:
        """As in the contract."""
        self.settings = [self.settings[at] for at in places]
        self._heads = [self._heads[at] for at in places]
        self._optimizers = [self._optimizers[at] for at in places]
        self._noises = [self._noises[at] for at in places]
