"""Names of variables: their units and leaves, their order by number, and variables that are not weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# The suffixes that optimizers of TensorFlow 1 append to a variable's name; the last ones are from BERT and slim.
SLOT_LEAVES = frozenset(
    {"Adam", "Adam_1", "Momentum", "Momentum_1", "RMSProp", "RMSProp_1", "RMSProp_2", "Adagrad", "Adadelta",
     "Adadelta_1", "Ftrl", "Ftrl_1", "Nadam", "Nadam_1", "LARSOptimizer", "adam_m", "adam_v", "lamb_m", "lamb_v",
     "Adafactor", "Adafactor_1", "vr", "vc"}
)  # fmt: skip
AVERAGE_LEAF = "ExponentialMovingAverage"
_COUNTER = re.compile(
    r"(.*/)?(global_step|save_counter|step|local_step|iterations?|iter|learning_rate|decay|beta_?[12](_power)?|loss_scale"
    r"|good_steps|count|total)(_\d+)?"
)
_KERAS_TRAINING = re.compile(r"training(_\d+)?/(Adam|SGD|RMSprop|Adagrad|Adadelta|Adamax|Nadam)/.*")
_CELL = re.compile(r"(.*_)?(lstm|gru|simple_rnn|conv_lstm[123]?d?|cu_?dnn_?lstm|cu_?dnn_?gru)_cell(_\d+)?|cell")
_HALF = re.compile(r"(forward|backward)_(.*)")
_ATTENTION = ("query", "key", "value", "attention_output")
_RANDOM = re.compile(r"(.*/)?(seed_generator_state|random_generator.*|rngs?)")


def by_numbers(name: str) -> tuple[tuple[int, str | int], ...]:
    """A sort key under which `conv2d_2` comes before `conv2d_10`."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() and part.isascii() else (1, part) for part in parts if part)


def unit_and_leaf(name: str) -> tuple[str, str]:
    """The layer and the leaf of a tensor: `a/b/kernel` is the leaf `kernel` of the layer `a/b`."""
    unit, _, leaf = name.rpartition("/")
    return unit, leaf


def keras_place(unit: str, leaf: str, units: Collection[str]) -> tuple[str, str]:
    """The Keras layer and the leaf of a tensor whose name has finer scopes than layers.

    Recurrent cells, both halves of a Bidirectional and the four products of an attention are one layer each: the
    `kernel` of `both/forward_gru/gru_cell` is `forward/kernel` of `both`.

    Args:
        unit: The scope of the tensor's name.
        leaf: The rest of the tensor's name.
        units: The scopes of all tensors.
    """
    outer, own, which = part_of_keras_layer(unit.split("/"))
    layer = "/".join(outer)
    half = _HALF.fullmatch(own)
    if half:
        other = f"{layer}/{'backward' if half[1] == 'forward' else 'forward'}_{half[2]}"
        is_part = any(name == other or name.startswith(f"{other}/") for name in units)
    else:
        is_part = bool(own) and all(f"{layer}/{part}" in units for part in _ATTENTION)
    if is_part:
        return layer, f"{which}/{leaf}"
    return f"{layer}/{own}" if own else layer, leaf


def part_of_keras_layer(scopes: Sequence[str]) -> tuple[list[str], str, str]:
    """Split the scopes of a tensor into those of a Keras layer and that of a part of the layer.

    Args:
        scopes: The scopes of a tensor, from the outermost; the first one is always that of a layer.

    Returns:
        The scopes of the layer, without that of a recurrent cell; the scope of the part (`forward_gru`, `query`); and
        the part (`forward`, `query`). The last two are empty if the tensor belongs to the layer itself.
    """
    parts = list(scopes)
    if len(parts) > 1 and _CELL.fullmatch(parts[-1]) and parts[-2] != "stacked_rnn_cells":
        parts.pop()
    half = _HALF.fullmatch(parts[-1])
    if len(parts) > 1 and (half or parts[-1] in _ATTENTION):
        return parts[:-1], parts[-1], half[1] if half else parts[-1]
    return parts, "", ""


def role_by_name(name: str, shape: Sequence[int], names: Collection[str]) -> str | None:
    """The drop class of a TensorFlow variable; None if it is a weight.

    Args:
        name: The name of the variable.
        shape: Its shape; counters have no axes.
        names: The names of all variables: the name of a slot begins with one of them.
    """
    base, leaf = unit_and_leaf(name)
    if (leaf in SLOT_LEAVES and base in names) or _KERAS_TRAINING.fullmatch(name):
        return "optimizer slot"
    if leaf == AVERAGE_LEAF:
        return "moving average"
    if leaf in ("biased", "local_step") and base in names:  # moving averages with bias correction
        return "counter"
    if len(shape) == 0 and _COUNTER.fullmatch(name):
        return "counter"
    return "random state" if _RANDOM.fullmatch(name) else None
