"""Trainable values that a forward pass leaves in attributes, for a loss to read: a graph would not leave them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from frostline.core.errors import SplitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from frostline.splitting.values import Values


class LeftAttributes:
    """The tensors in attributes of a model before a run.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {id(tensor) for _, tensor in _tensors_of(model.named_modules())}

    def refuse(self, values: Values, whole: Iterable[str]) -> None:
        """After the run: refuse trainable values in attributes that were not there before.

        Args:
            values: The tensors of the run.
            whole: Modules that the head calls whole: they leave behind what they leave.

        Raises:
            SplitError: It names the attribute.
        """
        inner = tuple(f"{name}." for name in whole)
        modules = (
            (name, module) for name, module in self._model.named_modules() if not f"{name}.".startswith(inner or "\0")
        )
        for name, tensor in _tensors_of(modules):
            if id(tensor) not in self._before and values.is_tainted(tensor):
                raise SplitError(
                    what=f"The forward pass leaves a trainable value in the attribute {name!r}.",
                    where=name,
                    received=f"a tensor of shape {tuple(tensor.shape)}, which a graph does not leave there",
                    do="return that value from forward, beside the output: a callable loss gets all of it; or "
                    "train with frostline.fit(..., cache=False).",
                )


def _tensors_of(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[tuple[str, Tensor]]:
    """Plain attributes; a table that a model keeps is its own memory."""
    for prefix, module in modules:
        for key, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                yield f"{prefix}.{key}" if prefix else key, value
