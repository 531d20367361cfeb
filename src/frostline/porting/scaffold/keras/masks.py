"""Masks as expressions: those that Keras passes on with the values, and those that a network lists as operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.porting.scaffold.keras.call import UNKNOWN, Call
from frostline.porting.scaffold.python_text import decimal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def mask_after(call: Call) -> str:
    """The expression of the mask of a layer's output; empty if all steps count."""
    if call.kind == "Embedding":
        return f"{call.x} != 0" if call.config.get("mask_zero") else ""
    if call.kind == "Masking":
        return counting(call)
    if not any(call.masks) or "trainable" not in call.config:
        return ""
    if call.kind in _KEEPING:
        return call.masks[0]
    if call.kind in ("LSTM", "GRU", "SimpleRNN", "Bidirectional"):
        inner: Any = call.config.get("layer")
        config: Mapping[str, Any] = (inner.get("config") or {}) if isinstance(inner, dict) else call.config
        return call.masks[0] if config.get("return_sequences") else ""
    return _merged(call) if call.kind in _MERGING else ""


def counting(call: Call) -> str:
    """The expression of the mask of steps in which any value differs from the value of padding."""
    return f"({call.x} != {decimal(call.number('mask_value', 0))}).any(-1)"


def _merged(call: Call) -> str:
    given = list(dict.fromkeys(mask for mask in call.masks if mask))
    if call.version >= 3 and not all(call.masks) and call.kind != "Concatenate":
        return ""
    axis = call.config.get("axis", -1) if call.kind == "Concatenate" else None
    if axis == 1 or axis == 1 - call.rank:
        whole = (mask or f"torch.ones_like({one}[..., 0], dtype=torch.bool)"
                 for mask, one in zip(call.masks, call.inputs, strict=True))  # fmt: skip
        return UNKNOWN if UNKNOWN in given else f"torch.cat([{', '.join(whole)}], 1)"
    if UNKNOWN in given or (axis is not None and call.version != 2 and (len(given) > 1 or not all(call.masks))):
        return UNKNOWN
    return f" {'|' if call.version >= 3 else '&'} ".join(given)


def _compared(call: Call) -> str:
    stated: Any = call.config.get("call")
    number = stated["args"][1]  # a number: the network was interpreted before
    return f"{call.x} != {decimal(number)}"


def _reduced(call: Call) -> str:
    return f"{call.x}.any({int(call.number('axis', -1))}{', keepdim=True' if call.flag('keepdims', False) else ''})"


def _written(function: Callable[[Call], str]) -> Callable[[Call], tuple[str, str]]:
    def written(call: Call) -> tuple[str, str]:
        if max(call.rank, len(call.shape)) > 3:
            call.refuse("of more than three axes")
        return "", function(call)

    return written


_KEEPING = frozenset(
    ("Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "ThresholdedReLU", "Dropout", "SpatialDropout1D",
     "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization", "BatchNormalization",
     "LayerNormalization", "GroupNormalization", "UnitNormalization", "Identity", "TimeDistributed",
     "MultiHeadAttention")
)  # fmt: skip
_MERGING = frozenset(("Add", "Subtract", "Average", "Multiply", "Maximum", "Minimum", "Concatenate"))

LOGIC: dict[str, Callable[[Call], tuple[str, str]]] = {
    "Masking": _written(lambda call: f"{call.x}.where({counting(call)}.unsqueeze(-1), 0)"),
    "NotEqual": _written(_compared),
    "Any": _written(_reduced),
    "ExpandDims": _written(lambda call: f"{call.x}.unsqueeze({int(call.number('axis', -1))})"),
    "LogicalOr": _written(lambda call: f"{call.inputs[0]} | {call.inputs[1]}"),
    "LogicalAnd": _written(lambda call: f"{call.inputs[0]} & {call.inputs[1]}"),
    "ZerosLike": _written(lambda call: f"torch.zeros_like({call.x}, dtype=torch.bool)"),
    "OnesLike": _written(lambda call: f"torch.ones_like({call.x}, dtype=torch.bool)"),
}
