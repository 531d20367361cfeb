"""Layouts of Keras 3, tf.keras, and Keras layers in TensorFlow checkpoints, which store the same arrays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.blocks import ResetBeforeGRU
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Combine, Layout, Move, blocks, permuted, reshaped
from frostline.porting.layouts.rules import assemble, fits, over_maps
from frostline.porting.units.unit import is_layer

if TYPE_CHECKING:
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_CONV: dict[type[nn.Module], Layout] = {
    nn.Conv1d: permuted("(k, in, out) to (out, in, k)", 2, 1, 0),
    nn.Conv2d: permuted("(h, w, in, out) to (out, in, h, w)", 3, 2, 0, 1),
    nn.Conv3d: permuted("(d, h, w, in, out) to (out, in, d, h, w)", 4, 3, 0, 1, 2),
}
_CONV_TRANSPOSED: dict[type[nn.Module], Layout] = {
    nn.ConvTranspose1d: permuted("(k, out, in) to (in, out, k)", 2, 1, 0),
    nn.ConvTranspose2d: permuted("(h, w, out, in) to (in, out, h, w)", 3, 2, 0, 1),
    nn.ConvTranspose3d: permuted("(d, h, w, out, in) to (in, out, d, h, w)", 4, 3, 0, 1, 2),
}
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_NORM = {
    "gamma": ("weight", SAME), "beta": ("bias", SAME), "scale": ("weight", SAME),
    "moving_mean": ("running_mean", SAME), "moving_variance": ("running_var", SAME),
}  # fmt: skip
_STANDARD = {
    "mean": ("running_mean", SAME), "variance": ("running_var", SAME), "count": ("num_batches_tracked", SAME),
}  # fmt: skip
_GATES = blocks("gates z, r, h to r, z, n", 3, (1, 0, 2))


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a Keras layer to a PyTorch layer; None if the layers do not fit.

    References:
        Keras 3.15, `layers/`; measured against PyTorch 2.13 (docs/formats.md).
    """
    module = target.module
    if isinstance(module, tuple(_CONV)):
        layout = next(layout for kind, layout in _CONV.items() if isinstance(module, kind))
        if "depthwise_kernel" in unit.leaves:
            shape = unit.leaves["depthwise_kernel"].shape
            return assemble(unit, target, {"depthwise_kernel": ("weight", _depthwise(shape)), "bias": ("bias", SAME)})
        return assemble(unit, target, {"kernel": ("weight", layout), "bias": ("bias", SAME)})
    if isinstance(module, tuple(_CONV_TRANSPOSED)):
        layout = next(layout for kind, layout in _CONV_TRANSPOSED.items() if isinstance(module, kind))
        return assemble(unit, target, {"kernel": ("weight", layout), "bias": ("bias", SAME)})
    if isinstance(module, nn.Linear):
        return _linear(unit, target)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return assemble(unit, target, {"embeddings": ("weight", SAME)})
    if isinstance(module, _NORMS):
        defaults = {"weight": 1.0, "bias": 0.0, "num_batches_tracked": 0.0}
        if {"mean", "variance"} <= set(unit.leaves):  # a Normalization layer
            return assemble(unit, target, _STANDARD) if not {"weight", "bias"} & set(target.tensors) else None
        return assemble(unit, target, over_maps(unit, target, _NORM), defaults) if unit.leaves else None
    if isinstance(module, nn.PReLU):
        shape = unit.leaves["alpha"].shape if "alpha" in unit.leaves else ()
        return assemble(unit, target, {"alpha": ("weight", reshaped("shared axes left out", shape, shape[-1:]))})
    if isinstance(module, (nn.LSTM, nn.LSTMCell, nn.RNN, nn.RNNCell)):
        rows = {"kernel": ("weight_ih", TRANSPOSED), "recurrent_kernel": ("weight_hh", TRANSPOSED),
                "bias": ("bias_ih", SAME)}  # fmt: skip
        return assemble(unit, target, rows, {"bias_ih": 0.0, "bias_hh": 0.0})
    if isinstance(module, ResetBeforeGRU):
        rows = {"kernel": ("weight_ih", TRANSPOSED), "recurrent_kernel": ("weight_hh", TRANSPOSED),
                "bias": ("bias", SAME)}  # fmt: skip
        return assemble(unit, target, rows)
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        return _gru(unit, target)
    return None


_ROOT = Combine("the square root", lambda parts: parts[0].sqrt())


def statistic(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The move from the mean or variance of a `Normalization` to a tensor of the module with such a name."""
    (leaf, tensor), own = next(iter(unit.leaves.items())), next(iter(target.tensors))
    words = set(re.findall(r"[a-z]+", own.lower()))
    shape = tuple(target.tensors[own].shape)
    layout = reshaped("axes of the module", tensor.shape, shape)
    made = None
    if words & ({"mean"} if leaf == "mean" else {"variance", "var"}):
        made = (Move(own, (leaf,), (layout,)),)
    elif leaf == "variance" and words & {"std", "sd"}:
        made = (Move(own, (leaf,), (layout,), combine=_ROOT),)
    return made if made is not None and fits(unit, target, made) else None


def is_statistic(unit: SourceUnit, target: TargetUnit) -> bool:
    """Whether `target` is a tensor of the module for this mean or variance, by its name and size."""
    return not is_layer(target.module) and len(target.tensors) == 1 and statistic(unit, target) is not None


def _depthwise(shape: tuple[int, ...]) -> Layout:
    """(k..., C, M) to (C * M, 1, k...): the outputs of one channel stay adjacent."""
    spatial = len(shape) - 2
    ordered = permuted("(k, in, multiplier) to (in * multiplier, 1, k)", spatial, spatial + 1, *range(spatial))
    separate = (shape[-2], shape[-1], *shape[:spatial])
    return ordered.then(reshaped("joined", separate, (shape[-2] * shape[-1], 1, *shape[:spatial])))


def _linear(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    kernel = unit.leaves.get("kernel")
    if kernel is None:
        return None
    layout = TRANSPOSED
    features_out, features_in = target.tensors["weight"].shape if target.tensors["weight"].ndim == 2 else (0, 0)
    if len(kernel.shape) > 2:  # kernels with heads, and 1x1 convolutions for which the module has a linear layer
        if kernel.shape[:-2] and all(size == 1 for size in kernel.shape[:-2]):
            flat = kernel.shape[-2:]
        else:
            flat = (features_in, features_out)
        layout = reshaped("axes joined", kernel.shape, flat).then(TRANSPOSED)
    bias = unit.leaves.get("bias")
    bias_layout = reshaped("axes joined", bias.shape, (features_out,)) if bias and len(bias.shape) > 1 else SAME
    return assemble(unit, target, {"kernel": ("weight", layout), "bias": ("bias", bias_layout)})


def _gru(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves of a GRU whose bias has two rows, for the input and for the state.

    A single row means `reset_after=False`: the reset gate is applied before the matrix product, which no GRU of PyTorch
    does.
    """
    rows = {
        "kernel": ("weight_ih", TRANSPOSED.then(_GATES)), "recurrent_kernel": ("weight_hh", TRANSPOSED.then(_GATES)),
        "bias[0]": ("bias_ih", _GATES), "bias[1]": ("bias_hh", _GATES),
    }  # fmt: skip
    return assemble(unit, target, rows, {"bias_ih": 0.0, "bias_hh": 0.0})
