"""Layers that multiply with a matrix or look up rows of one: dense, embedding, attention.

Legend: B batch, T queries, S keys, D features, H heads, K size of one head.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.porting.interpreter.activations import activated
from frostline.porting.interpreter.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Callable


def _dense(layer: Layer) -> Tensor:
    layer.allow(lora_rank=None, quantization_config=None)
    x, bias = layer.input() @ layer.weight("kernel"), layer.bias()
    return activated(layer, x if bias is None else x + bias)


def _einsum_dense(layer: Layer) -> Tensor:
    layer.allow(lora_rank=None, quantization_config=None)
    equation = layer.needed("equation")
    if not isinstance(equation, str):
        layer.refuse(f"equation {equation!r}")
    x = torch.einsum(equation, layer.input(), layer.weight("kernel"))
    return activated(layer, x if layer.setting("bias_axes") is None else x + layer.weight("bias"))


def _embedding(layer: Layer) -> Tensor:
    layer.allow(lora_rank=None, quantization_config=None)
    table, ids = layer.weight("embeddings"), layer.input().long()
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(table):
        layer.refuse(f"numbers from {int(ids.min())} to {int(ids.max())} for {len(table)} rows")
    return table[ids]


def _attention(layer: Layer) -> Tensor:
    layer.allow(use_gate=False, sliding_window=None, output_shape=None)
    query, key, value = _roles(layer)
    if layer.setting("attention_axes") not in (None, [1], (1,)) or query.ndim != 3:
        layer.refuse("attention over other axes than time")
    q, k, v = (_projected(layer, one, name) for one, name in ((query, "query"), (key, "key"), (value, "value")))
    scores_BHTS = torch.einsum("bthk,bshk->bhts", q, k) / math.sqrt(q.shape[-1])
    if _arguments(layer).get("use_causal_mask"):
        ahead = torch.ones(scores_BHTS.shape[-2:], dtype=torch.bool).triu(1)
        scores_BHTS = scores_BHTS.masked_fill(ahead, -math.inf)
    asking, *seen = _masks(layer)
    for mask_BS in seen:
        if mask_BS is not None:
            scores_BHTS = scores_BHTS.masked_fill(~mask_BS[:, None, None], -math.inf)
            v = v.where(mask_BS[:, :, None, None], 0.0)
    shares_BHTS = scores_BHTS.softmax(-1)
    if asking is not None:  # at padded queries the backends of Keras differ: NaN, so that no later layer can use them
        shares_BHTS = shares_BHTS.where(asking[:, None, :, None], math.nan)
    seen = torch.einsum("bhts,bshk->bthk", shares_BHTS, v)
    out = torch.einsum("bthk,hkd->btd", seen, layer.weight(f"{_out(layer)}/kernel"))
    return out + layer.weight(f"{_out(layer)}/bias") if layer.setting("use_bias", True) else out


def _roles(layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value; the order of positional arguments is query, value, key."""
    names = layer.setting("names") or ("",) * len(layer.inputs)
    by_position = [one for one, name in zip(layer.inputs, names, strict=True) if not name]
    given = dict(zip(("query", "value", "key"), by_position, strict=False))
    given |= {name: one for one, name in zip(layer.inputs, names, strict=True) if name}
    if not {"query", "value"} <= set(given) <= {"query", "key", "value"} or len(given) != len(layer.inputs):
        layer.refuse(f"inputs {', '.join(map(str, names))}")
    return given["query"], given.get("key", given["value"]), given["value"]


def _masks(layer: Layer) -> tuple[Tensor | None, ...]:
    """The masks of query, key and value, from the first input that each of them is."""
    if not any(mask is not None for mask in layer.masks):
        return (None, None, None)
    slots = ([at for at, one in enumerate(layer.inputs) if one is role] for role in _roles(layer))
    return tuple(layer.mask_of(places[0]) for places in slots)


def _projected(layer: Layer, x: Tensor, part: str) -> Tensor:
    made = torch.einsum("btd,dhk->bthk", x, layer.weight(f"{part}/kernel"))
    return made + layer.weight(f"{part}/bias") if layer.setting("use_bias", True) else made


def _out(layer: Layer) -> str:
    return "attention_output" if "attention_output/kernel" in layer.weights else "output"


def _arguments(layer: Layer) -> dict[str, Any]:
    call = layer.setting("call")
    found = call.get("kwargs") if isinstance(call, dict) else None
    return found if isinstance(found, dict) else {}


KINDS: dict[str, Callable[[Layer], Tensor]] = {
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "MultiHeadAttention": _attention,
}
