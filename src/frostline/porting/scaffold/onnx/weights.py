"""The attributes of the module: layers with their weights, and weights that belong to no layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.scaffold.onnx.values import FLOAT, INT, Numbers, Value
from frostline.porting.scaffold.python_text import NotWrittenError, unused
from frostline.porting.units.forms.module_form import grouped
from frostline.porting.units.unit import source_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.readers.contract import Source, SourceTensor
    from frostline.porting.scaffold.onnx.node import LayerTensor


class Weights:
    """The attributes of the module.

    Args:
        source: The file.
        device: The expression of the device of the inputs.

    Attributes:
        made: The expressions of the attributes, by name.
    """

    def __init__(self, source: Source, device: str) -> None:
        self.made: dict[str, str] = {}
        self.device = device
        self._units: dict[str, dict[str, SourceTensor]] = {}
        for tensor in source.tensors:
            self._units.setdefault(tensor.unit, {})[tensor.leaf] = tensor
        # The parameter for a tensor without a layer has the name that the port gives the tensor.
        self._names = {
            tensor.name: unit.name if len(unit.leaves) == 1 else f"{unit.name}/{leaf}"
            for unit in grouped(source_units(source), ()) for leaf, tensor in unit.leaves.items()
        }  # fmt: skip
        self._texts: dict[str, str | None] = {}  # by tensor: its expression; None inside a recurrent layer
        self._layers: dict[tuple[str, ...], str] = {}
        self._buffers: dict[str, str] = {}

    def layer(self, name: str, text: str) -> str:
        """Add a layer without weights; return its expression."""
        return f"self.{self._attribute(name, text)}"

    def weighted(self, text: str, held: Mapping[str, LayerTensor]) -> str | None:
        """Add a layer if its weights are exactly one unit; the same weights return the same layer again."""
        names = tuple(one.tensor.name for one in held.values())
        if found := self._layers.get((text, *names)):
            return found
        unit = next(iter(held.values())).tensor.unit
        whole = {leaf: one.tensor.name for leaf, one in held.items()}
        if any(name in self._texts for name in names) or whole != {
            leaf: tensor.name for leaf, tensor in self._units[unit].items()
        }:
            return None
        layer = self._layers[(text, *names)] = f"self.{self._attribute(unit, text)}"
        for one in held.values():
            self._texts[one.tensor.name] = f"{layer}.{one.own}{'.T' if one.is_transposed else ''}" if one.own else None
        return layer

    def parameter(self, tensor: SourceTensor, *, is_used: bool = True) -> Value:
        """The expression of a tensor of the file: in its layer, or else as a parameter that is added."""
        kind = FLOAT if "float" in tensor.dtype else INT
        if tensor.name not in self._texts:
            name = self._names.get(tensor.name, tensor.name)
            shape = ", ".join(map(str, tensor.shape)) or "()"
            zeros = f"torch.zeros({shape})" if kind == FLOAT else f"torch.zeros({shape}, dtype=torch.{tensor.dtype})"
            attribute = self._attribute(name, f"nn.Parameter({zeros})")
            if kind != FLOAT:
                self.made[attribute] = f'register_buffer("{attribute}", {zeros})'
            self._texts[tensor.name] = f"self.{attribute}"
        text = self._texts[tensor.name]
        if text is None and is_used:
            raise NotWrittenError(f"the tensor {tensor.name!r}, which a recurrent layer and other nodes share")
        return Value(text or "", len(tensor.shape), kind)

    def buffer(self, values: Numbers) -> Value:
        """Add a constant tensor, which is not saved with the weights."""
        text = f"torch.tensor({values.text})"
        if text not in self._buffers:
            attribute = self._attribute("constant", text)
            self.made[attribute] = f'register_buffer("{attribute}", {text}, persistent=False)'
            self._buffers[text] = f"self.{attribute}"
        return Value(self._buffers[text], values.rank, values.kind)

    def _attribute(self, name: str, text: str) -> str:
        attribute = unused(name, self.made)
        self.made[attribute] = text
        return attribute
