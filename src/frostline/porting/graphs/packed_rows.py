"""The order of query, key and value in the rows of one layer of a module, found by runs of the module.

If the same vector is added to all keys, the scores of each query change by a constant, and the softmax does not change.
If it is added to queries or values, the outputs change. This finds the rows of the keys, and with them the order. It
does not work for attentions that rotate queries and keys by their positions, or normalise them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.inputs import call, map_tensors
from frostline.core.restore import undisturbed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Shares of the change that values cause: at most rounding of float32, and at least the change by a query.
_SAME, _OTHER = 1e-5, 1e-3


class PackedRows:
    """Runs of one module; one attention of each class and size is run, and stands for all of them.

    Args:
        model: The module; it is unchanged after each run.
        example: Inputs of the module; None if they are not known, so that no order is found.
    """

    def __init__(self, model: nn.Module, example: Any) -> None:
        self._model, self._example = model, example
        self._found: dict[tuple[type[nn.Module], tuple[int, ...]], str] = {}

    def order(self, name: str, sizes: Sequence[int], orders: Mapping[str, Tensor]) -> str:
        """The order in which the module reads the rows of a layer; empty if runs do not show it.

        Args:
            name: The name of the layer.
            sizes: The numbers of rows of query, key and value.
            orders: By the name of an order: the indices of the rows of query, key and value, concatenated.
        """
        if self._example is None or len(sizes) != 3:
            return ""
        key = (type(self._model.get_submodule(name.rpartition(".")[0])), tuple(sizes))
        if key not in self._found:
            self._found[key] = next((one for one, rows in orders.items() if self._is_read(name, sizes, rows)), "")
        return self._found[key]

    def _is_read(self, name: str, sizes: Sequence[int], rows: Tensor) -> bool:
        query, keys, value = rows.split(list(sizes))
        try:
            plain = self._run(name, query[:0])
            by_query, by_key, by_value = (_apart(self._run(name, own), plain) for own in (query, keys, value))
        except Exception:  # the forward of a user may raise anything
            return False
        return by_value > 0 and by_key <= _SAME * by_value and by_query >= _OTHER * by_value

    def _run(self, name: str, rows: Tensor) -> Tensor:
        """The output of the module if one vector is added to these rows of the layer's output, at every position."""
        random = torch.Generator().manual_seed(0)
        added = torch.randn(len(rows), generator=random)

        def add(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            changed = output.clone()
            scale = float(output.std()) or 1.0
            changed[..., rows.to(output.device)] += (added * scale).to(output)
            return changed

        handle = self._model.get_submodule(name).register_forward_hook(add)
        try:
            with undisturbed(self._model), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _first(call(self._model, map_tensors(self._example, _varied))).double()
        finally:
            handle.remove()


def _varied(value: Tensor) -> Tensor:
    """Random numbers: if all positions had the same values, no change of the attention would show."""
    if not value.is_floating_point():
        return value
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)


def _first(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    return _first(next(iter(outputs.values() if isinstance(outputs, dict) else outputs)))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
