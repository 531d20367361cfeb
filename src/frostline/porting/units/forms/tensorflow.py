"""Layers of TensorFlow 1: leaves in the words of Keras; cells keep one kernel for their input and their state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.parts import rows

if TYPE_CHECKING:
    from frostline.porting.units.units import SourceUnit

_LEAVES = {"weights": "kernel", "biases": "bias", "depthwise_weights": "depthwise_kernel",
           "pointwise_weights": "pointwise_kernel", "embedding": "embeddings"}  # fmt: skip


def renamed(unit: SourceUnit) -> SourceUnit:
    """The unit with the leaves of Keras; the kernel of an LSTM cell as that of its input and that of its state."""
    leaves = {_LEAVES.get(leaf, leaf): tensor for leaf, tensor in unit.leaves.items()}
    kernel = leaves.get("kernel")
    is_cell = unit.name.endswith("lstm_cell") and "recurrent_kernel" not in leaves
    if is_cell and kernel is not None and len(kernel.shape) == 2:
        del leaves["kernel"]
        inputs = kernel.shape[0] - kernel.shape[1] // 4
        leaves["kernel_of_input"] = rows(kernel, 0, inputs)
        leaves["kernel_of_state"] = rows(kernel, inputs, kernel.shape[0])
    return replace(unit, leaves=leaves)
