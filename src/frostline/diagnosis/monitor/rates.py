"""How a learning rate goes: its highest value, and when it sank to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.diagnosis.rules.records import RateFacts

if TYPE_CHECKING:
    from torch.optim import Optimizer

_NOTHING = 1e-3  # of the highest rate


class Rates:
    """Reads the largest rate of an optimizer now and then.

    Args:
        optimizer: None leaves nothing to say.
    """

    def __init__(self, optimizer: Optimizer | None) -> None:
        self._optimizer = optimizer
        self._highest = 0.0
        self._sunk_at: int | None = None

    def look(self, step: int) -> None:
        """Read the rate before this step."""
        groups: list[dict[str, Any]] = self._optimizer.param_groups if self._optimizer is not None else []
        rate = max((float(group["lr"]) for group in groups if group.get("lr") is not None), default=0.0)
        self._highest = max(self._highest, rate)
        if rate >= _NOTHING * self._highest:
            self._sunk_at = None
        elif self._sunk_at is None:
            self._sunk_at = step

    def facts(self, steps: int) -> RateFacts | None:
        """After so many steps; None where there is no rate."""
        return RateFacts(self._highest, self._sunk_at, steps) if self._highest > 0 else None
