"""Haiku trees: their identification by the names of arrays, and state that is not part of the network."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from frostline.porting.readers.contract import SourceTensor

NOTE = "The names of the arrays are those of Haiku."
_WEIGHTS = ("w", "w_i", "w_h")
_NORM = {"w", "scale", "offset"}  # no other framework has these together
_OTHERS = ("kernel", "weight", "weights", "gamma")  # leaves of Flax, PyTorch, TensorFlow and Keras
# The default names of Haiku modules; `~` is the scope of submodules that are created in `__init__`.
_MODULE = re.compile(
    r"~|(linear|mlp|conv[123]_d(_transpose)?|lstm|gru|vanilla_rnn|embed|batch_norm|layer_norm|group_norm)(_\d+)?"
)
_STATE = {"hidden": "moving average", "counter": "counter"}
_AVERAGE = re.compile(r"(.+/)?~/\w+_ema")


def taken(tensors: Sequence[SourceTensor]) -> tuple[tuple[SourceTensor, ...], dict[str, str]] | None:
    """The weights in a Haiku tree, and the drop classes of all other tensors.

    Args:
        tensors: The tensors of the file, with unit and leaf.

    Returns:
        None if the names are not those of Haiku.
    """
    leaves = {tensor.leaf for tensor in tensors}
    parts = {part for tensor in tensors for part in tensor.unit.split("/")}
    is_named = leaves >= _NORM or any(_MODULE.fullmatch(part) for part in parts)
    if not leaves & {*_WEIGHTS} or leaves & {*_OTHERS} or not is_named:
        return None
    kept: list[SourceTensor] = []
    dropped: dict[str, str] = {}
    for tensor in tensors:
        if tensor.leaf in _STATE and _AVERAGE.fullmatch(tensor.unit):
            dropped[tensor.name] = _STATE[tensor.leaf]
        else:
            kept.append(replace(tensor, unit=tensor.unit.removeprefix("state/")))
    return tuple(kept), dropped


def has_averages(names: Iterable[str], root: str) -> bool:
    """Whether arrays under a root are the state of a network of Haiku, by the averages of its norms."""
    return any(name.startswith(root) and _AVERAGE.fullmatch(name.rpartition("/")[0]) for name in names)
