"""A stream of random numbers that heads draw from: what they would draw if they were trained alone."""

from __future__ import annotations

from typing import Any

from frostline.core.restore import (
    GeneratorStates,
    generator_states,
    kept_generators,
    seed_generators,
    set_generator_states,
)


class OwnNoise:
    """Inside of it, the global generators go on where they stood at its last end; outside, nothing has moved.

    Args:
        seed: Where they start.
        is_drawn: False if nothing draws from them: then nothing is done.
    """

    def __init__(self, seed: int, *, is_drawn: bool = True) -> None:
        self._is_drawn = is_drawn
        self._outer: GeneratorStates | None = None
        with kept_generators():
            seed_generators(seed)
            self._own = generator_states()

    def __enter__(self) -> None:
        if self._is_drawn:
            self._outer = generator_states()
            set_generator_states(self._own)

    def __exit__(self, *_: Any) -> None:
        if self._is_drawn and self._outer is not None:
            self._own = generator_states()
            set_generator_states(self._outer)
