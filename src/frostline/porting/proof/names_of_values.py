"""Inputs and outputs that the file and the module name alike are compared by name, whatever their order."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from frostline.core.errors import FOREIGN
from frostline.porting.proof.module_outputs import run_with_hooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


def input_order(model: nn.Module, names: Sequence[str]) -> list[int]:
    """The places of the file's inputs in the order of the module's arguments.

    Args:
        model: The module.
        names: The names of the inputs in the file, in its order.

    Returns:
        For each of the first arguments of `forward` the place of its input; the order of the file if these
        arguments have other names.
    """
    try:
        arguments = list(inspect.signature(model.forward).parameters)[: len(names)]
    except (TypeError, ValueError):  # a forward without a signature, such as of a scripted module
        arguments = []
    return _order(arguments, names)


def output_order(model: nn.Module, inputs: Any, names: Sequence[str]) -> list[int]:
    """The places of the file's outputs in the order of the entries that the module returns.

    Args:
        model: The module.
        inputs: As it takes them.
        names: The names of the outputs in the file, in its order.

    Returns:
        For each entry of the returned mapping the place of its output; the order of the file if the module returns
        no mapping, or entries with other names.
    """
    try:
        found = run_with_hooks(model, inputs, ()) if len(names) > 1 else None
    except FOREIGN:
        found = None
    return _order(list(found) if isinstance(found, dict) else [], names)  # pyright: ignore[reportUnknownArgumentType]


def _order(own: Sequence[Any], names: Sequence[str]) -> list[int]:
    is_alike = len(set(names)) == len(names) and sorted(map(str, own)) == sorted(names)
    return [list(names).index(str(name)) for name in own] if is_alike else list(range(len(names)))
