"""Random numbers of Python and NumPy: what a model decides with them leaves no trace among the calls of torch."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from frostline.core.errors import SplitError


class PythonNoise:
    """Watches the global generators of Python and NumPy during one run of a model."""

    def __init__(self) -> None:
        self._state = _state()

    def has_drawn(self) -> bool:
        """True if somebody has drawn since the last time that this was asked."""
        before, self._state = self._state, _state()
        return before != self._state


def python_noise_error(module: str, line: str) -> SplitError:
    """What the numbers decided would stand still in the head."""
    return SplitError(
        what="The model draws random numbers from Python or NumPy: what they decide would stand still in the head.",
        where=f"{module or 'the model'}, before {line}",
        received="another state of `random` or `numpy.random`",
        do="draw with torch and decide with torch.where; or put that step into a module of its own that holds no "
        "frozen layers, so that it is called whole; or train with frostline.fit(..., cache=False).",
    )


def _state() -> tuple[Any, bytes, int]:
    numpy: Any = np.random.get_state(legacy=False)["state"]
    return random.getstate(), numpy["key"].tobytes(), int(numpy["pos"])
