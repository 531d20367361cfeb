"""Puts back what a model keeps anywhere in Python: a training begins as it would without a look at the model."""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core.errors import NotCacheable
from frostline.core.generators import GENERATORS, kept_state
from frostline.core.restore import kept_values
from frostline.splitting.python_state.places import Walk
from frostline.splitting.python_state.sources import sources_of
from frostline.splitting.python_state.value_tables import HeldEntries

_KINDS: tuple[Any, ...] = (list, set, deque)
_MOST_BYTES = 2**26  # of one tensor that is copied: larger ones are data, which no forward pass writes into


class KeptPlaces:
    """What the code of a model can reach outside of its modules' own attributes, before anything runs it.

    Args:
        model: Any module.

    Attributes:
        iterators: Names of places that hold an iterator (a generator function, a file, `itertools.count`). Where it
            stands cannot be put back, since others may hold the same one: such a model is not run before it trains.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._walk = model, walked(model)
        self.iterators = iterators_in(self._walk)

    def check(self) -> None:
        """Raise if a split would move an iterator.

        Raises:
            NotCacheable: If the code reads one.
        """
        check_iterators(self._walk)

    @contextmanager
    def kept(self) -> Generator[None]:
        """Inside, run the model; afterwards classes, globals, closures and default arguments keep what they kept.

        Generators of random numbers stand where they stood, what came in is taken out, and weights train that trained.
        Buffers and modes are not looked at.
        """
        walk, trains = self._walk, [(own, own.requires_grad) for own in self._model.parameters()]
        with ExitStack() as stack:
            stack.enter_context(kept_values([], [*walk.containers, *(place.value for place in walk.places)]))
            for place in walk.places:
                if isinstance(place.value, GENERATORS):
                    stack.enter_context(kept_state(place.value))
            stack.enter_context(kept_memos(walk.memos))
            held = (*walk.containers, *(place.value for place in walk.places))
            restoring = [put_back for value in held if (put_back := _content_of(value)) is not None]
            try:
                yield
            finally:
                stack.close()
                for parameter, has_gradient in trains:
                    if parameter.requires_grad is not has_gradient:
                        parameter.requires_grad_(has_gradient)
                for put_back in restoring:
                    put_back()
                for place in walk.places:
                    place.put_back()
                known = {place.name for place in walk.places}
                for place in walked(self._model).places:
                    if place.name not in known:
                        place.take_out()

    def kept_memos(self) -> Any:
        """Inside, run the model; afterwards what `functools.lru_cache` keeps was not made inside."""
        return kept_memos(self._walk.memos)


@contextmanager
def kept_memos(memos: Iterable[Any]) -> Generator[None]:
    """Afterwards, functions of `functools.lru_cache` that had computed nothing have computed nothing again.

    What one has kept before cannot be put back, and stays.
    """
    empty = [memo for memo in memos if not memo.cache_info().misses]
    try:
        yield
    finally:
        for memo in empty:
            memo.cache_clear()


def iterators_in(walk: Walk) -> list[str]:
    """Names of the places that hold an iterator."""
    return [place.name for place in walk.places if isinstance(place.value, Iterator)]


def check_iterators(walk: Walk) -> None:
    """Raise if a look at the model would leave an iterator further on than a training begins with.

    Raises:
        NotCacheable: If the code reads one.
    """
    names = iterators_in(walk)
    if names:
        raise NotCacheable(
            what=f"The model reads what cannot be put back after a look at it: {', '.join(map(repr, names[:4]))}.",
            where=names[0],
            received="an iterator, a generator function or an open file: each read moves it on",
            do="keep a number or a list in an attribute of the module, and count there; or train with "
            "frostline.fit(..., cache=False), which then does not run the model before the training.",
        )


def walked(model: nn.Module) -> Walk:
    """All places that the code of a model can reach, those too that forward itself writes."""
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
    if isinstance(value, (bytearray, array)):
        return partial(value.__setitem__, slice(None), value[:])
    return _entries_of(value)


def _entries_of(container: Any) -> Callable[[], None] | None:
    """What fills a container of a class of its own with the entries of now; None for others."""
    own: type[Any] = type(container)
    if issubclass(own, dict) and own not in (dict, OrderedDict):
        held = HeldEntries(container)
        return partial(held.fill, [*held.items()])
    kind = next((kind for kind in _KINDS if isinstance(container, kind) and own is not kind), None)
    if kind is None:
        return None
    entries, add = [*kind.__iter__(container)], kind.update if kind is set else kind.extend

    def fill() -> None:
        kind.clear(container)  # by the methods of the kind: those of its class may do more
        add(container, entries)

    return fill
