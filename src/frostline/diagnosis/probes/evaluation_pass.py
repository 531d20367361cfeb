"""A look at a model in evaluation mode, after which it is as it was: what all probes that run it share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import Tensor, nn

_T = TypeVar("_T")


@contextmanager
def evaluation(model: nn.Module, *, seed: int = 0) -> Generator[None]:
    """The model in evaluation mode, with this seed; modes, buffers, counters and generators are put back.

    Args:
        model: What is run inside.
        seed: Of the noise that it draws all the same.
    """
    with kept_modes(model), kept_buffers(model), kept_attributes(model, numbers=True), kept_generators():
        model.eval()
        seed_generators(seed)
        yield


@contextmanager
def weights_of(model: nn.Module, start: dict[str, Tensor]) -> Generator[None]:
    """The model with other values of some of its parameters, which are put back.

    Args:
        model: What is run inside.
        start: The values, by name.
    """
    own = {name: value for name, value in model.named_parameters() if name in start}
    kept = {name: value.detach().clone() for name, value in own.items()}
    try:
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(start[name])
        yield
    finally:
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(kept[name])


class Probes:
    """Runs probes, and keeps the reasons of those that the model or the loss cannot take.

    Attributes:
        failed: (code, why) of the rules that have nothing to judge by.
    """

    def __init__(self) -> None:
        self.failed: list[tuple[str, str]] = []

    def run(self, codes: tuple[str, ...], probe: Callable[[], _T], otherwise: _T) -> _T:
        """What the probe finds; `otherwise` where its pass ends with an error of the model or the loss.

        Args:
            codes: Of the rules that judge by it.
            probe: callable() that runs the model.
            otherwise: What is known without it.
        """
        try:
            return probe()
        except (*FOREIGN, DataError) as error:
            why = f"a pass in evaluation mode ended with {type(error).__name__}: {error}"
            self.failed += [(code, why) for code in codes]
            return otherwise
