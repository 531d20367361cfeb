"""Every kind of layer that is interpreted, and the check that its call has no arguments that would be ignored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.porting.interpreter import activations, convolutions, dense, logic, merges, norms, pools, recurrent
from frostline.porting.interpreter.layer import Layer, inner
from frostline.porting.interpreter.masks import TAKES_MASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def apply(layer: Layer) -> Tensor:
    """The output of a layer for its inputs.

    Raises:
        NotInterpretedError: If the kind of the layer, a setting or an argument of its call is not known.
    """
    if layer.kind not in KINDS:
        layer.refuse()
    if not _is_default(layer.setting("call"), _ALLOWED.get(layer.kind, frozenset())):
        layer.refuse("it is called with arguments")
    names = set(layer.setting("names") or ()) - {"", "inputs", "x", "sequences", "query", "value", "key"}
    names -= {"mask"} if layer.kind in TAKES_MASK else set()
    if names:
        layer.refuse(f"it is called with {', '.join(sorted(names))}")
    return KINDS[layer.kind](layer)


def _is_default(call: Any, allowed: frozenset[str]) -> bool:
    """Whether all arguments of a call other than tensors are defaults, or known arguments of this kind of layer."""
    if isinstance(call, dict):
        return all(key in allowed or _is_default(value, allowed) for key, value in call.items())
    if isinstance(call, (list, tuple)):
        return all(_is_default(value, allowed) for value in call)
    return call is None or call is False


def _time_distributed(layer: Layer) -> Tensor:
    """A layer applied to every step, by treating steps as samples: layers that depend on the batch are refused."""
    kind, config = inner(layer, "layer")
    x = layer.input()
    if kind == "TimeDistributed":
        layer.refuse("of itself")
    if layer.mask is not None and kind in _MASKED:
        layer.refuse(f"of {kind} on padded steps")
    steps = replace(layer.within("", config, kind), inputs=(x.flatten(0, 1),), masks=())
    made = apply(steps)
    return made.unflatten(0, x.shape[:2])


# Layers that mask their own inputs, or whose result depends on a mask.
_MASKED = ("Embedding", "Masking", "LSTM", "GRU", "SimpleRNN", "Bidirectional", "GlobalAveragePooling1D", "Softmax",
           "MultiHeadAttention")  # fmt: skip
_ALLOWED = {
    "MultiHeadAttention": frozenset({"use_causal_mask"}),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Maximum", "Minimum", "NotEqual"), frozenset({"args"})),
}

KINDS: dict[str, Callable[[Layer], Tensor]] = {
    **activations.LAYERS, **convolutions.KINDS, **dense.KINDS, **logic.KINDS, **merges.KINDS, **norms.KINDS,
    **pools.KINDS, **recurrent.KINDS, "TimeDistributed": _time_distributed,
}  # fmt: skip
