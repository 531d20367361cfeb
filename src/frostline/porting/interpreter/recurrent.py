"""Recurrent layers of Keras, computed step by step from a state of zeros.

Legend: B batch, T time, I inputs, U units; the gates are concatenated along the columns of kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.porting.interpreter.activations import activated
from frostline.porting.interpreter.layer import Layer, inner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _run(layer: Layer, step: Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]], states: int) -> Tensor:
    """The outputs (B, T, U), or the last one (B, U); the output of a step is its first state."""
    layer.allow(return_state=False, time_major=False)
    x_BTI = layer.input()
    if layer.setting("go_backwards"):
        x_BTI = x_BTI.flip(1)
    units = layer.weight("recurrent_kernel").shape[0]
    state = (x_BTI.new_zeros(len(x_BTI), units),) * states
    outputs: list[Tensor] = []
    masks = _steps(layer, x_BTI)
    has_zeros = bool(layer.setting("zero_output_for_mask"))
    if has_zeros and layer.mask is not None:
        layer.allow(unroll=False)
    for x_BI, mask_B1 in zip(x_BTI.unbind(1), masks, strict=True):
        made = step(x_BI, state)
        if mask_B1 is not None:  # a padded step does not change the state
            made = tuple(after.where(mask_B1, before) for after, before in zip(made, state, strict=True))
        state = made
        outputs.append(state[0] if mask_B1 is None or not has_zeros else state[0].where(mask_B1, 0.0))
    return torch.stack(outputs, 1) if layer.setting("return_sequences") else outputs[-1]


def _steps(layer: Layer, x_BTI: Tensor) -> Sequence[Tensor | None]:
    """For each step, in the order of computation, the samples in which it counts; None if it does in all."""
    if layer.mask is None:
        return [None] * x_BTI.shape[1]
    mask_BT = layer.mask.flip(1) if layer.setting("go_backwards") else layer.mask
    return mask_BT.unsqueeze(-1).unbind(1)


def _lstm(layer: Layer) -> Tensor:
    kernel, recurrent, bias = layer.weight("kernel"), layer.weight("recurrent_kernel"), layer.bias()
    added = bias if bias is not None else kernel.new_zeros(kernel.shape[1])

    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        gates = x @ kernel + state[0] @ recurrent + added
        enters, forgets, cell, leaves = gates.chunk(4, -1)
        enters, forgets, leaves = (activated(layer, gate, "recurrent_activation") for gate in (enters, forgets, leaves))
        cell = forgets * state[1] + enters * activated(layer, cell)
        return leaves * activated(layer, cell), cell

    return _run(layer, step, 2)


def _gru(layer: Layer) -> Tensor:
    kernel, recurrent, bias = layer.weight("kernel"), layer.weight("recurrent_kernel"), layer.bias()
    is_after, units = bool(layer.needed("reset_after")), recurrent.shape[0]
    if bias is not None and (bias.ndim == 2) != is_after:
        layer.refuse(f"a bias of shape {tuple(bias.shape)} with reset_after={is_after}")
    none = kernel.new_zeros(3 * units)
    outer, inside = (none, none) if bias is None else (bias[0], bias[1]) if is_after else (bias, none)

    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (before,) = state
        x_z, x_r, x_h = (x @ kernel + outer).chunk(3, -1)
        h_z, h_r = (before @ recurrent[:, : 2 * units] + inside[: 2 * units]).chunk(2, -1)
        z = activated(layer, x_z + h_z, "recurrent_activation")
        r = activated(layer, x_r + h_r, "recurrent_activation")
        last = recurrent[:, 2 * units :]
        h_h = r * (before @ last + inside[2 * units :]) if is_after else (r * before) @ last
        return (z * before + (1 - z) * activated(layer, x_h + h_h),)

    return _run(layer, step, 1)


def _simple(layer: Layer) -> Tensor:
    kernel, recurrent, bias = layer.weight("kernel"), layer.weight("recurrent_kernel"), layer.bias()

    def step(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        value = x @ kernel + state[0] @ recurrent
        return (activated(layer, value if bias is None else value + bias),)

    return _run(layer, step, 1)


def _bidirectional(layer: Layer) -> Tensor:
    kind, config = inner(layer, "layer")
    backward = layer.setting("backward_layer")
    other = inner(layer, "backward_layer") if backward is not None else (
        kind, {**config, "go_backwards": not config.get("go_backwards", False)}
    )  # fmt: skip
    if kind not in _PLAIN or other[0] not in _PLAIN:
        layer.refuse(f"of {kind}")
    has_zeros = {"zero_output_for_mask": bool(config.get("return_sequences"))}  # Keras ignores the stated value here
    one = _PLAIN[kind](layer.within("forward/", {**config, **has_zeros}, kind))
    two = _PLAIN[other[0]](layer.within("backward/", {**other[1], **has_zeros}, other[0]))
    two = two.flip(1) if config.get("return_sequences") else two
    mode = layer.setting("merge_mode", "concat")
    merged = {"concat": lambda: torch.cat([one, two], -1), "sum": lambda: one + two, "mul": lambda: one * two,
              "ave": lambda: (one + two) / 2}  # fmt: skip
    if mode not in merged:
        layer.refuse(f"merge_mode {mode!r}")
    return merged[mode]()


_PLAIN: dict[str, Callable[[Layer], Tensor]] = {"LSTM": _lstm, "GRU": _gru, "SimpleRNN": _simple}
KINDS: dict[str, Callable[[Layer], Tensor]] = {**_PLAIN, "Bidirectional": _bidirectional}
