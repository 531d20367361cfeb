"""Names of the variables of Keras layers, which Keras 3 stores by number only."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KERNEL = ("kernel", "bias?use_bias")
_DEPTHWISE = ("depthwise_kernel", "bias?use_bias")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias?use_bias")
_RECURRENT = ("kernel", "recurrent_kernel", "bias?use_bias")
_SCALED = ("gamma?scale", "beta?center")
# By class in snake case, in the order of storage; a variable with `?` exists only if the setting after it is true.
_VARIABLES = {
    **dict.fromkeys(("dense", "einsum_dense"), _KERNEL),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _KERNEL),
    **dict.fromkeys(("conv1d_transpose", "conv2d_transpose", "conv3d_transpose"), _KERNEL),
    **dict.fromkeys(("depthwise_conv1d", "depthwise_conv2d"), _DEPTHWISE),
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), _SEPARABLE),
    **dict.fromkeys(("lstm", "gru", "simple_rnn", "lstm_cell", "gru_cell", "simple_rnn_cell"), _RECURRENT),
    **dict.fromkeys(("conv_lstm1d", "conv_lstm2d", "conv_lstm3d", "conv_lstm_cell"), _RECURRENT),
    **dict.fromkeys(("layer_normalization", "group_normalization"), _SCALED),
    "batch_normalization": (
        *_SCALED, "moving_mean", "moving_variance",
        "moving_stddev?renorm", "renorm_mean?renorm", "renorm_stddev?renorm",
    ),
    "rms_normalization": ("scale",),
    "normalization": ("mean", "variance", "count"),
    "embedding": ("embeddings",),
    "p_re_lu": ("alpha",),
    "attention": ("scale?use_scale",),
    "additive_attention": ("scale?use_scale",),
    "spectral_normalization": ("layer_kernel", "vector_u"),  # the first is the kernel of the inner layer, again
}  # fmt: skip


def snake_case(name: str) -> str:
    """The name of a class in Keras's paths: `conv2d_transpose` for `Conv2DTranspose`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def is_known(kind: str) -> bool:
    """Whether the names of the variables of this class (in snake case) are known."""
    return kind in _VARIABLES


def leaves(kind: str, count: int, config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names of a layer's `count` variables, in the order of their numbers; empty names if they are unknown.

    Args:
        kind: Its class, in snake case.
        count: The number of its variables in the file.
        config: Its settings, if the file contains them. Without settings, the first of three vectors of a batch
            normalization could be gamma or beta.

    Example:
        >>> leaves("conv2d", 1, None)
        ('kernel',)
        >>> leaves("batch_normalization", 3, None)
        ('', '', '')
        >>> leaves("batch_normalization", 3, {"scale": False})
        ('beta', 'moving_mean', 'moving_variance')
    """
    variables = [name.partition("?") for name in _VARIABLES.get(kind, ())]
    flags = sorted({flag for _, _, flag in variables if flag})
    found: set[tuple[str, ...]] = set()
    for values in product((False, True), repeat=len(flags)):
        on = dict(zip(flags, values, strict=True))
        if config is None or all(on[flag] == _setting(config, flag) for flag in flags):
            found.add(tuple(name for name, _, flag in variables if on.get(flag, True)))
    fitting = [names for names in found if len(names) == count]
    return fitting[0] if len(fitting) == 1 else ("",) * count


# Keras 3 stores a network that is a class without the classes of its layers, and variables by number. Shapes then
# name them where only one reading exists.
def leaves_by_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """The names of the variables of a layer whose class is not in the file, in the order of their numbers.

    The paths of subclassed models contain names of attributes instead of classes. Built-in layers create their
    variables in a fixed order, so a kernel with a bias, or the four vectors of a batch normalization, can be identified
    by shape.

    Returns:
        The names; empty ones if the shapes are ambiguous.

    Example:
        >>> leaves_by_shape([(3, 3, 8, 16), (16,)])
        ('kernel', 'bias')
        >>> leaves_by_shape([(16,), (16,)])
        ('', '')
    """
    ranks = [len(shape) for shape in shapes]
    if len(shapes) == 2 and ranks[0] >= 2 and ranks[1] == 1 and shapes[0][-1] == shapes[1][0]:
        return ("kernel", "bias")
    if ranks == [1] * 4 and len(set(shapes)) == 1:
        return ("gamma", "beta", "moving_mean", "moving_variance")
    return ("",) * len(shapes)


def _setting(config: Mapping[str, Any], flag: str) -> bool:
    if config.get("rms_scaling") and flag in ("scale", "center"):
        return flag == "scale"
    return bool(config.get(flag, flag not in ("renorm", "use_scale")))
