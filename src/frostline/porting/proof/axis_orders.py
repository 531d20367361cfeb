"""The orders of axes in which a module may take inputs and return outputs: channels are last in Keras, on axis 1 here.

Legend: B batch, T time, C channels, S spatial axes.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor


def _channels_first(value: Tensor) -> Tensor:
    """(B, S..., C) to (B, C, S...)."""
    return value.movedim(-1, 1) if value.is_floating_point() and value.ndim > 2 else value


def _images_first(value: Tensor) -> Tensor:
    return _channels_first(value) if value.ndim > 3 else value


def _frames_first(value: Tensor) -> Tensor:
    """(B, T, S..., C) to (B, T, C, S...), for sequences of images."""
    return value.movedim(-1, 2) if value.ndim > 4 else value


def _time_first(value: Tensor) -> Tensor:
    """(B, T, C) to (T, B, C), and (B, T) of whole numbers likewise."""
    return value.transpose(0, 1) if value.ndim == 3 or not value.is_floating_point() else value


def _plain(value: Tensor) -> Tensor:
    return value


def _without_last(value: Tensor) -> Tensor:
    return value.squeeze(-1) if value.ndim == 2 else value


_AS_THEY_ARE = "axes as in the file"
ORDERS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("channels on axis 1", _channels_first),
    ("channels of images on axis 1", _images_first),
    (_AS_THEY_ARE, _plain),
    ("time before batch", _time_first),
    ("channels of each image of a sequence on axis 2", _frames_first),
)
_MOST_ORDERED = 3  # networks with more inputs take them in the order of the file only


def of_inputs(values: Sequence[Tensor]) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """The inputs in every order of axes and in every order of arguments, each once, with the name of the order.

    Inputs of the same shape and dtype are not exchanged: to exchange them together with the layers behind them gives
    the same outputs, so that no run could distinguish the two assignments.
    """
    seen: set[tuple[object, ...]] = set()
    count = len(values)
    orders = itertools.permutations(range(count)) if count <= _MOST_ORDERED else iter([tuple(range(count))])
    for order in orders:
        if any(at != index and _is_like(values[at], values[index]) for at, index in enumerate(order)):
            continue
        for name, arrange in ORDERS:
            made = tuple(arrange(values[index]) for index in order)
            key = tuple((index, one.stride(), one.shape) for index, one in zip(order, made, strict=True))
            if key not in seen:
                seen.add(key)
                text = name if any(one.ndim > 2 for one in made) else _AS_THEY_ARE
                text = text if order == tuple(range(count)) else f"{text}, inputs in another order"
                yield text, tuple(one.contiguous() for one in made)


def _is_like(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def of_outputs(values: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """The outputs in every order of axes, each once; also without a last axis of size 1."""
    seen: set[tuple[object, ...]] = set()
    for arrange in (*(arrange for _, arrange in ORDERS), _without_last):
        made = tuple(arrange(value) for value in values)
        key = tuple((one.stride(), one.shape) for one in made)
        if key not in seen:
            seen.add(key)
            yield made
