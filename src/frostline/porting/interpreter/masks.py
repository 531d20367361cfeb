"""Masks: Keras passes from layer to layer which steps of a sequence count, together with the values.

Legend: B batch, T time; a mask has the axes (B, T), and is false at padding.

References:
    Keras 3.15, `keras/src/layers/layer.py`, and tf_keras 2.21, `tf_keras/src/engine/base_layer.py`: layers that do not
    support masks drop them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frostline.porting.interpreter.layer import Layer, Mask, NotInterpretedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Layers whose result depends on a mask.
_NEEDS_MASK = frozenset({"LSTM", "GRU", "SimpleRNN", "Bidirectional", "TimeDistributed", "GlobalAveragePooling1D",
                         "MultiHeadAttention", "Softmax", "Multiply", "Maximum", "Minimum"})  # fmt: skip
# Layers that can be called with a mask as an argument; Keras 3 lists the operations that compute it in the network.
TAKES_MASK = frozenset({"LSTM", "GRU", "SimpleRNN", "Bidirectional", "TimeDistributed", "GlobalAveragePooling1D",
                        "BatchNormalization"})  # fmt: skip


def masked(layer: Layer, masks: Sequence[Mask]) -> Layer:
    """The layer with the masks of its inputs, or with the mask that it was called with.

    Args:
        layer: The layer; if it was called with a mask, the mask is one of its inputs.
        masks: The masks of its inputs.
    """
    names: tuple[str, ...] = layer.setting("names") or ()
    if layer.kind in TAKES_MASK and "mask" in names and len(names) == len(layer.inputs):
        at = names.index("mask")
        return replace(layer, inputs=(*layer.inputs[:at], *layer.inputs[at + 1 :]), masks=(layer.inputs[at],))
    unknown = next((mask for mask in masks if isinstance(mask, NotInterpretedError)), None)
    if unknown is not None and layer.kind in _NEEDS_MASK:
        raise unknown
    return replace(layer, masks=tuple(masks))


def seen(mask: Mask, layer: Layer, attentions: int) -> Mask:
    """The mask of a value for one of the layers that take the value.

    The attentions of Keras 3 remove the mask from their inputs. Another layer that takes the same value then has a mask
    or none, depending on the order in which Keras runs the layers.

    Args:
        mask: The mask of the value.
        layer: The layer that takes the value.
        attentions: The number of attentions that take it.

    Returns:
        An error if the mask depends on the order of the layers.
    """
    is_own = layer.kind == "MultiHeadAttention" and attentions == 1
    if not attentions or layer.version == 2 or is_own or not isinstance(mask, Tensor) or bool(mask.all()):
        return mask
    return NotInterpretedError(
        f"not interpreted: {layer.name} ({layer.kind}): padded steps of a value that an attention takes, too"
    )


def mask_after(layer: Layer) -> Mask:
    """The mask of the output of a layer; None if all steps count.

    Returns:
        An error if the mask depends on the version of Keras.
    """
    try:
        return _after(layer)
    except NotInterpretedError as error:
        return error


def _after(layer: Layer) -> Mask:
    if layer.kind == "Embedding":
        return layer.input() != 0 if layer.setting("mask_zero") else None
    if layer.kind == "Masking":
        return counting(layer)
    given = layer.masks
    if not any(mask is not None for mask in given) or not _is_layer(layer) or layer.kind not in _AFTER:
        return None
    if layer.version >= 3 and layer.kind in _MERGING and None in given:
        return None
    unknown = next((mask for mask in given if isinstance(mask, NotInterpretedError)), None)
    return unknown or _AFTER[layer.kind](layer)


def counting(layer: Layer) -> Tensor:
    """The mask of steps in which any value differs from the value of padding."""
    value = layer.setting("mask_value", 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        layer.refuse(f"mask_value {value!r}")
    return (layer.input() != float(np.float32(value))).any(-1)


def check_unmasked(layer: Layer) -> None:
    """Refuse padding in a layer in which the versions of Keras treat it differently."""
    if _is_padded(layer) and _is_layer(layer):
        layer.refuse("padded steps, which versions of Keras treat differently here")


def _is_padded(layer: Layer) -> bool:
    return any(mask is not None and not (isinstance(mask, Tensor) and bool(mask.all())) for mask in layer.masks)


def _is_layer(layer: Layer) -> bool:
    """Whether it is a layer; operations on tensors are listed like layers, and have no masks."""
    return "trainable" in layer.config


def _same(layer: Layer) -> Mask:
    return layer.masks[0]


def _of_steps(layer: Layer) -> Mask:
    return layer.masks[0] if layer.setting("return_sequences") else None


def _of_both(layer: Layer) -> Mask:
    inner = layer.setting("layer")
    config = inner.get("config") if isinstance(inner, dict) else None
    return layer.masks[0] if isinstance(config, dict) and config.get("return_sequences") else None


def _merged(layer: Layer) -> Mask:
    """Steps that count in all inputs (Keras 2) or in any (Keras 3)."""
    given = [mask for mask in layer.masks if isinstance(mask, Tensor)]
    made = given[0]
    if layer.version == 0 and (len(given) < len(layer.masks) or any(not torch.equal(made, one) for one in given)):
        layer.refuse("masks of an unknown version of Keras that differ")
    for one in given[1:]:
        made = made | one if layer.version >= 3 else made & one
    return made


def _joined(layer: Layer) -> Mask:
    """The mask of a concatenation: along time the concatenated masks, along features the steps that count in all."""
    axis, rank = layer.setting("axis", -1), layer.inputs[0].ndim
    given = [mask if isinstance(mask, Tensor) else torch.ones(one.shape[:2], dtype=torch.bool)
             for mask, one in zip(layer.masks, layer.inputs, strict=True)]  # fmt: skip
    if not isinstance(axis, int) or rank != 3 or not all(mask.ndim == 2 for mask in given):
        layer.refuse("masks over other axes than time")
    if axis % rank == 1:
        return torch.cat(given, 1)
    if any(not torch.equal(given[0], one) for one in given) and layer.version != 2:
        layer.refuse("masks that differ, which versions of Keras join differently")
    made = given[0]
    for one in given[1:]:
        made = made & one
    return made


def _standing(layer: Layer) -> Mask:
    """The mask after layers that pass it on since Keras 3 only."""
    if _is_padded(layer) and layer.version == 0:
        layer.refuse("padded steps of an unknown version of Keras")
    return layer.masks[0] if layer.version >= 3 else None


_MERGING = ("Add", "Subtract", "Average", "Multiply", "Maximum", "Minimum")
_AFTER: dict[str, Callable[[Layer], Mask]] = {
    **dict.fromkeys(
        ("Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "ThresholdedReLU", "Dropout", "SpatialDropout1D",
         "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization", "BatchNormalization",
         "LayerNormalization", "GroupNormalization", "UnitNormalization", "Softmax", "TimeDistributed",
         "MultiHeadAttention"),
        _same,
    ),
    **dict.fromkeys(("Identity", "Rescaling", "Normalization"), _standing),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), _of_steps),
    **dict.fromkeys(_MERGING, _merged),
    "Bidirectional": _of_both,
    "Concatenate": _joined,
}  # fmt: skip
