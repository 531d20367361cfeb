"""How a learning rate goes: its highest value, when it sank to nothing, how often it rose from where it began."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.diagnosis.rules.records import RateFacts

if TYPE_CHECKING:
    from torch.optim import Optimizer

_NOTHING = 1e-3  # of the highest rate
_FALL = 0.6  # of the rate before: a warm-up that begins anew
_RISES = 1.5  # looks at which it rose, for each of these


class Rates:
    """Reads the largest rate of an optimizer now and then.

    Args:
        optimizer: None leaves nothing to say.
    """

    def __init__(self, optimizer: Optimizer | None) -> None:
        self._optimizer = optimizer
        self._highest = 0.0
        self._sunk_at: int | None = None
        self._before = 0.0
        self._rises = self._restarts = 0
        self._only_rises, self._has_fallen = True, False  # but for these falls

    def look(self, step: int) -> None:
        """Read the rate before this step."""
        groups: list[dict[str, Any]] = self._optimizer.param_groups if self._optimizer is not None else []
        rate = max((float(group["lr"]) for group in groups if group.get("lr") is not None), default=0.0)
        self._highest = max(self._highest, rate)
        self._compare(rate)
        if rate >= _NOTHING * self._highest:
            self._sunk_at = None
        elif self._sunk_at is None:
            self._sunk_at = step

    def facts(self, steps: int) -> RateFacts | None:
        """After so many steps; None where there is no rate."""
        begins_anew = self._only_rises and self._rises >= _RISES * self._restarts
        restarts = self._restarts if begins_anew else 0
        return RateFacts(self._highest, self._sunk_at, steps, restarts) if self._highest > 0 else None

    def _compare(self, rate: float) -> None:
        """With the rate at the look before: a warm-up that begins anew falls at once, and rises again."""
        if rate > self._before > 0:
            self._rises += 1
            self._restarts += self._has_fallen
            self._has_fallen = False
        elif self._has_fallen or _FALL * self._before < rate < self._before:
            self._only_rises = False  # steps down, and schedules that fall slowly
        elif rate < self._before:
            self._has_fallen = True
        self._before = rate
