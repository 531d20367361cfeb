"""Gradient mode and autocast inside of a model: settings that a graph has to switch as the model does."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Generator


Autocast = tuple[tuple[str, bool, torch.dtype], ...]


@dataclass(frozen=True)
class Region:
    """The settings that a `with torch.no_grad()` or `with torch.autocast(...)` changes; None for unchanged."""

    gradients: bool | None
    autocast: Autocast | None

    def relative_to(self, ambient: Region) -> Region:
        """Only what differs from the settings under which the model was called."""
        return Region(
            None if self.gradients == ambient.gradients else self.gradients,
            None if self.autocast == ambient.autocast else self.autocast,
        )


def current_region() -> Region:
    """The settings now."""
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    autocast = tuple(
        (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices
    )
    return Region(torch.is_grad_enabled(), autocast)


def enter_region(ambient: Region, change: Region) -> None:
    """Switch to the caller's settings with this change; `kept_region` puts the caller's back on errors."""
    gradients = ambient.gradients if change.gradients is None else change.gradients
    torch._C._set_grad_enabled(bool(gradients))
    autocast = ambient.autocast if change.autocast is None else change.autocast
    for device, is_enabled, dtype in autocast or ():
        if torch.is_autocast_enabled(device) and not is_enabled:
            torch.clear_autocast_cache()  # as leaving `torch.autocast` does: it holds casts of today's weights
        torch.set_autocast_enabled(device, is_enabled)
        torch.set_autocast_dtype(device, dtype)


@contextmanager
def kept_region() -> Generator[None]:
    """Put the caller's settings back, on errors too."""
    region = current_region()
    try:
        yield
    finally:
        if current_region() != region:
            enter_region(region, region)
