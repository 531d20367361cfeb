"""Rules for the axes of values in operations with weights: which axis of a value stands for which axis of a weight.

Legend: B batch, C channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.graphs.axes import CHANNELS, OTHER, PLACE, UNKNOWN, Origin, is_odd, of_role, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.porting.graphs.axes import Axes
    from frostline.porting.graphs.axes_of_run import AxesOfRun
    from frostline.porting.graphs.calls import Call


def _made(call: Call, axes: Axes, channels: int, sides: bool = True) -> Axes:
    """The axes of the output of a layer: new channels, and the given axes before them."""
    owners = [unit for unit, _ in call.units] if sides else []
    unit = owners[0] if len(set(owners)) == 1 else ""
    shape = call.made[0].shape
    channels %= len(shape)
    return tuple(
        whole(Origin(size, CHANNELS, (call.number, index), unit)) if index == channels
        else axes[index] if axes and index < len(axes)
        else whole(Origin(size, PLACE, (call.number, index)))
        for index, size in enumerate(shape)
    )  # fmt: skip


def _linear(run: AxesOfRun, call: Call) -> list[Axes]:
    axes = run.of(call.known[0])
    run.use([unit for unit, _ in call.units], axes, len(axes) - 1, is_sure=False)
    made = _made(call, axes[:-1], -1)
    if len(axes[-1]) == 1 and axes[-1][0].origin.role in (PLACE, UNKNOWN) and made[-1]:
        (mixed,) = axes[-1]  # a linear layer over places gives places again; over an unknown axis, an unknown one
        made = (*made[:-1], whole(replace(made[-1][0].origin, role=mixed.origin.role, place=mixed.origin.place)))
    return [made]


def _convolution(run: AxesOfRun, call: Call) -> list[Axes]:
    axes = run.of(call.known[0])
    spatial = next(int(letter) for letter in call.name if letter.isdigit())
    at = len(axes) - spatial - 1
    run.use([unit for unit, _ in call.units], axes, at, is_sure=True)
    return [_made(call, axes[:at], at)]


def _recurrent(run: AxesOfRun, call: Call) -> list[Axes]:
    axes = run.of(call.known[0])
    units = [unit for unit, _ in call.units if ":l" not in unit or unit.rpartition(":")[2].startswith("l0")]
    run.use(units, axes, len(axes) - 1, is_sure=False)
    return [
        tuple(whole(Origin(size, CHANNELS if index == one.ndim - 1 else PLACE, (call.number, index)))
              for index, size in enumerate(one.shape))
        for one in call.made
    ]  # fmt: skip


def _embedding(run: AxesOfRun, call: Call) -> list[Axes]:
    return [_made(call, (), -1)]


def _norm(run: AxesOfRun, call: Call) -> list[Axes] | None:
    axes = run.of(call.known[0])
    is_layer_norm = call.name in ("layer_norm", "rms_norm")
    at = -1 if is_layer_norm or len(axes) < 2 else 1
    for unit, weight in call.units:
        if weight.ndim == 1 and weight.shape[0] == 1 and call.name == "prelu":
            continue
        if call.name in ("instance_norm", "group_norm"):
            run.take(unit, OTHER, axes[at])
        else:
            run.take_features(unit, axes[-weight.ndim :] if is_layer_norm else [axes[at]])
    if not is_layer_norm and is_odd(axes, at, is_sure=len(axes) > 2):
        run.mark_unfollowed(call.made, [unit for unit, _ in call.units])
    if not is_layer_norm and len(axes) > 2:  # a norm over channels of feature maps
        run.show(axes[1], CHANNELS)
        for axis in axes[2:]:
            run.show(axis, PLACE)
    return [axes]


def _attention_layer(run: AxesOfRun, call: Call) -> list[Axes]:
    axes = run.of(call.known[0])
    for one in call.known:
        for unit, _ in call.units:
            run.take(unit, OTHER, run.of(one)[-1])
    made = [_made(call, axes[:-1], -1, sides=False)]
    return [*made, *(of_role(UNKNOWN, one.shape, call.number) for one in call.made[1:])]


_RULES: dict[str, Callable[[AxesOfRun, Call], list[Axes] | None]] = {
    "linear": _linear, "embedding": _embedding, "multi_head_attention_forward": _attention_layer,
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm", "prelu", "layer_norm", "rms_norm"), _norm),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _recurrent),
    **{f"conv{kind}{axes}d": _convolution for kind in ("", "_transpose") for axes in (1, 2, 3)},
}  # fmt: skip


def rule_of(name: str) -> Callable[[AxesOfRun, Call], list[Axes] | None] | None:
    """The rule for a layer's operation; None if there is none."""
    return _RULES.get(name)
