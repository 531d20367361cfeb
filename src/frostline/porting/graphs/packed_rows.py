"""How a module reads query, key and value from one layer, as runs of it show.

A softmax over keys does not change where one vector is added to all keys. Where the same is added to rows that are not
keys, outputs change. So the rows of the keys are found, in whatever order the module has them; no other evidence is
needed. Attentions that turn queries and keys by their places, or normalise them, do not show it.
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

# Of the change that values make: what is rounding of float32 at most, and what a query changes at least.
_SAME, _OTHER = 1e-5, 1e-3


class PackedRows:
    """Runs of one module; attentions of one class are run once.

    Args:
        model: The module; it is as before after each run.
        example: As the module takes inputs; None if that is not known, so that nothing is shown.
    """

    def __init__(self, model: nn.Module, example: Any) -> None:
        self._model, self._example = model, example
        self._found: dict[tuple[type[nn.Module], tuple[int, ...]], str] = {}

    def order(self, name: str, sizes: Sequence[int], orders: Mapping[str, Tensor]) -> str:
        """The order in which the rows of a layer are read; empty if runs do not show it.

        Args:
            name: Of the layer.
            sizes: How many rows are those of the query, the key and the value.
            orders: Where these lie, one after the other, by the name of the order.
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
        """The output where one vector is added to some rows of a layer's output, at all places alike."""
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
    """Other numbers at every place, as places that are all alike show nothing."""
    if not value.is_floating_point():
        return value
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)


def _first(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    return _first(next(iter(outputs.values() if isinstance(outputs, dict) else outputs)))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
