"""Puts back what a model keeps anywhere in Python: a training begins as it would without a look at the model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core.generators import GENERATORS, kept_state
from frostline.core.restore import kept_values
from frostline.splitting.python_state.places import Walk
from frostline.splitting.python_state.sources import sources_of

_MOST_BYTES = 2**26  # of one tensor that is copied: larger ones are data, which no forward pass writes into


@contextmanager
def kept_places(model: nn.Module) -> Generator[None]:
    """Inside, run the model; afterwards its classes, globals, closures and default arguments keep what they kept.

    Generators of random numbers and iterators stand where they stood, and what came in is taken out. Buffers and modes
    are not looked at. A generator function cannot be put back: only reading it shows what it holds.

    Args:
        model: Any module.
    """
    walk = _walked(model)
    with ExitStack() as stack:
        stack.enter_context(kept_values([], [*walk.containers, *(place.value for place in walk.places)]))
        for place in walk.places:
            if isinstance(place.value, GENERATORS):
                stack.enter_context(kept_state(place.value))
        restoring = [put_back for place in walk.places if (put_back := _content_of(place.value)) is not None]
        copies = [_copied(place.value) if isinstance(place.value, Iterator) else None for place in walk.places]
        try:
            yield
        finally:
            stack.close()
            for put_back in restoring:
                put_back()
            for place, taken in zip(walk.places, copies, strict=True):
                place.value = place.value if taken is None else taken
                place.put_back()
            known = {place.name for place in walk.places}
            for place in _walked(model).places:
                if place.name not in known:
                    place.take_out()


def _walked(model: nn.Module) -> Walk:
    modules = dict(model.named_modules())
    sources = [source for module in modules.values() for source in sources_of(module)]
    walk = Walk(sources, modules.values(), is_complete=True)
    for name, module in modules.items():
        walk.module(name, module)
    walk.scopes()
    return walk


def _content_of(value: Any) -> Callable[[], None] | None:
    """What writes the numbers of now into a tensor or an array again; None for other values."""
    if isinstance(value, Tensor) and value.layout is torch.strided and value.nbytes <= _MOST_BYTES:
        kept, version = value.detach().clone(), value._version

        def put_back() -> None:
            if value._version != version:
                value.detach().copy_(kept)

        return put_back
    if isinstance(value, np.ndarray) and value.nbytes <= _MOST_BYTES and value.flags.writeable:
        held = value.copy()
        return lambda: np.copyto(value, held)
    return None


def _copied(iterator: Iterator[Any]) -> Iterator[Any] | None:
    """One that goes on from where this one stands; None if there is none."""
    with warnings.catch_warnings(), suppress(Exception):  # a file, a loader, a generator function
        warnings.simplefilter("ignore", DeprecationWarning)  # those of itertools, in Python 3.12 and 3.13
        return copy.copy(iterator)
    return None
