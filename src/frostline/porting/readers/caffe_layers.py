"""Caffe's layers: their kinds and settings, by their field numbers in binary files.

References:
    BVLC/caffe, `src/caffe/proto/caffe.proto`: LayerParameter, V1LayerParameter, and the parameters of layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.porting.readers.contract import SourceLayer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from frostline.porting.readers.protobuf import Message

_NAMES_V1 = {
    "Accuracy": 1, "Concat": 3, "Convolution": 4, "Data": 5, "Dropout": 6, "EuclideanLoss": 7, "Flatten": 8,
    "ImageData": 12, "InnerProduct": 14, "LRN": 15, "MemoryData": 29, "Pooling": 17, "Power": 26, "ReLU": 18,
    "Sigmoid": 19, "Softmax": 20, "SoftmaxWithLoss": 21, "Split": 22, "TanH": 23, "Eltwise": 25, "HingeLoss": 28,
    "Slice": 33, "Deconvolution": 39, "AbsVal": 35, "Silence": 36, "Exp": 38, "MVN": 34, "Threshold": 31,
}  # fmt: skip
_TEXTS_V1 = {
    "CONCAT": "Concat", "CONVOLUTION": "Convolution", "DATA": "Data", "DROPOUT": "Dropout", "FLATTEN": "Flatten",
    "INNER_PRODUCT": "InnerProduct", "LRN": "LRN", "POOLING": "Pooling", "POWER": "Power", "RELU": "ReLU",
    "SIGMOID": "Sigmoid", "SOFTMAX": "Softmax", "SOFTMAX_LOSS": "SoftmaxWithLoss", "SPLIT": "Split", "TANH": "TanH",
    "ELTWISE": "Eltwise", "SLICE": "Slice", "DECONVOLUTION": "Deconvolution", "ABSVAL": "AbsVal",
}  # fmt: skip
# The kinds of version 1, by number and by their name in text files, as version 2 names them.
KINDS_V1: dict[int | str, str] = {number: name for name, number in _NAMES_V1.items()} | dict(_TEXTS_V1)

_CONVOLUTION = {
    1: "num_output", 2: "bias_term", 3: "pad", 4: "kernel_size", 5: "group", 6: "stride", 9: "pad_h", 10: "pad_w",
    11: "kernel_h", 12: "kernel_w", 13: "stride_h", 14: "stride_w", 16: "axis", 18: "dilation",
}  # fmt: skip
_POOLING = {
    1: ("pool", ("MAX", "AVE", "STOCHASTIC")), 2: "kernel_size", 3: "stride", 4: "pad", 5: "kernel_h", 6: "kernel_w",
    7: "stride_h", 8: "stride_w", 9: "pad_h", 10: "pad_w", 12: "global_pooling", 13: ("round_mode", ("CEIL", "FLOOR")),
}  # fmt: skip
# Name of the parameter message, its field numbers in versions 1 and 2 (0: none), and the names of its fields.
_PARAMETERS = (
    ("concat_param", 9, 104, {1: "concat_dim", 2: "axis"}), ("convolution_param", 10, 106, _CONVOLUTION),
    ("dropout_param", 12, 108, {1: "dropout_ratio"}),
    ("eltwise_param", 24, 110, {1: ("operation", ("PROD", "SUM", "MAX"))}), ("elu_param", 0, 140, {1: "alpha"}),
    ("flatten_param", 0, 135, {1: "axis", 2: "end_axis"}),
    ("inner_product_param", 17, 117, {1: "num_output", 2: "bias_term", 5: "axis", 6: "transpose"}),
    ("lrn_param", 18, 118, {1: "local_size", 2: "alpha", 3: "beta", 5: "k"}), ("pooling_param", 19, 121, _POOLING),
    ("relu_param", 30, 123, {1: "negative_slope"}), ("softmax_param", 39, 125, {2: "axis"}),
    ("batch_norm_param", 0, 139, {1: "use_global_stats", 2: "moving_average_fraction", 3: "eps"}),
    ("scale_param", 0, 142, {1: "axis", 2: "num_axes", 4: "bias_term"}), ("prelu_param", 0, 131, {2: "channel_shared"}),
    ("embed_param", 0, 137, {1: "num_output", 2: "input_dim", 3: "bias_term"}),
)  # fmt: skip
_TRUTHS = frozenset({"bias_term", "global_pooling", "transpose", "use_global_stats", "channel_shared"})
_FLOATS = frozenset({"dropout_ratio", "alpha", "beta", "k", "negative_slope", "moving_average_fraction", "eps"})


def settings(layer: Message, version: int) -> dict[str, Any]:
    """The settings of a layer in a binary file, in the same form as from a text file."""
    found: dict[str, Any] = {}
    for name, first, second, numbers in _PARAMETERS:
        message = layer.message(first if version == 1 else second) if (first if version == 1 else second) else None
        if message is not None:
            found[name] = {
                (word if isinstance(word, str) else word[0]): _value(message, number, word)
                for number, word in numbers.items()
                if message.has(number)
            }
    return found


def described(
    layers: Iterable[tuple[str, str, tuple[str, ...], tuple[str, ...], dict[str, Any]]],
) -> tuple[SourceLayer, ...]:
    """Layers with the names of the layers whose outputs they take.

    Args:
        layers: Name, kind, names of the input and output blobs of each layer (both may be the same), and its settings.
    """
    makers: dict[str, str] = {}
    found: list[SourceLayer] = []
    for name, kind, bottoms, tops, config in layers:
        inputs = tuple(makers[blob] for blob in bottoms if blob in makers)
        found.append(SourceLayer(name, kind, config, inputs))
        makers |= dict.fromkeys(tops, name)
    return tuple(found)


def _value(message: Message, number: int, word: str | tuple[str, tuple[str, ...]]) -> Any:
    if isinstance(word, tuple):
        place = message.integer(number)
        return word[1][place] if 0 <= place < len(word[1]) else place
    if word in _FLOATS:
        return message.float32(number)
    values = message.integers(number)
    if word in _TRUTHS:
        return bool(values[-1])
    return values[0] if len(values) == 1 else values
