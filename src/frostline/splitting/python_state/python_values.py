"""Python values as something that can be compared later: numbers, texts, tensors, containers, generators of numbers."""

from __future__ import annotations

import contextlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from frostline.core.digests import tensor_digest
from frostline.core.generators import GENERATORS, state_of
from frostline.splitting.python_state.scripts import SCRIPTED, UnreadableScript, script_text

NUMBERS = (bool, int, float, complex, str, bytes, np.generic, range,
           torch.dtype, torch.device, torch.layout, torch.memory_format)  # fmt: skip
_MAX_DEPTH = 4
_HOLDERS = (set, frozenset, deque, bytearray, array)


def has_state(value: Any) -> bool:
    """True for values that are compared as one, beside numbers and tensors: sets, queues, iterators, generators."""
    return isinstance(value, (*GENERATORS, *_HOLDERS)) or _is_iterator(value)


def fingerprint(value: Any, depth: int = 0) -> Any:
    """A value as something that can be compared later; an iterator is never the same: only reading shows its state."""
    if isinstance(value, Tensor):
        return tensor_digest(value)
    if isinstance(value, np.ndarray):
        held = value.tobytes() if not value.dtype.hasobject else fingerprint(value.ravel().tolist(), depth)
        return (value.dtype.str, value.shape, held)
    if value is None or isinstance(value, NUMBERS):
        return repr(value)
    if isinstance(value, GENERATORS):
        return state_of(value)
    if _is_iterator(value):
        return object()
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return tuple((str(key), fingerprint(part, depth + 1)) for key, part in cast("Mapping[Any, Any]", value).items())
    if depth < _MAX_DEPTH and isinstance(value, (set, frozenset)):
        return ("set", *sorted(map(repr, cast("Iterable[Any]", value))))  # a set has an order in each process
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple, *_HOLDERS)):
        return tuple(fingerprint(part, depth + 1) for part in cast("Iterable[Any]", value))
    if isinstance(value, SCRIPTED):
        with contextlib.suppress(UnreadableScript):
            return script_text(value)
    return type(value).__qualname__


def mark_of(value: Any) -> Any:
    """What tells that a value was written in place; None where nothing can be, or nobody can tell."""
    if isinstance(value, Tensor):
        return value._version
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return fingerprint(value) if isinstance(value, (*GENERATORS, *_HOLDERS)) else None


def _is_iterator(value: Any) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, Tensor)
