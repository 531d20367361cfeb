"""Small networks in the words of Keras, for Keras 3 and for the legacy one: each takes the package, gives a model.

Names of layers are given where a network has few of them, and left to Keras where their numbers are the point
(`conv2d_2` before `conv2d_10`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras_large_networks as large
import keras_other_networks as other
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping


def conv1d(keras: Any) -> Any:
    """Dilated convolutions of sequences, padded by `same`."""
    layers = keras.layers
    x = start = keras.Input((20, 6))
    x = layers.Conv1D(8, 3, padding="same", activation="relu", name="first")(x)
    x = layers.Conv1D(8, 5, padding="same", dilation_rate=2, activation="relu", name="wide")(x)
    x = layers.Conv1D(8, 3, padding="causal", activation="relu", name="past")(x)
    x = layers.MaxPooling1D(2)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(start, layers.Dense(5, name="scores")(x))


def conv2d(keras: Any) -> Any:
    """Two convolutions, and a dense layer after `Flatten`: height, width, channels in this order."""
    layers = keras.layers
    return keras.Sequential([
        keras.Input((12, 12, 3)),
        layers.Conv2D(8, 3, activation="relu", name="edges"),
        layers.Conv2D(8, 3, strides=2, activation="relu", name="shapes"),
        layers.Flatten(),
        layers.Dense(8, activation="relu", name="hidden"),
        layers.Dense(8, name="scores"),
    ])  # fmt: skip


def conv3d(keras: Any) -> Any:
    """Convolutions of volumes."""
    layers = keras.layers
    x = start = keras.Input((6, 7, 8, 2))
    x = layers.Conv3D(4, 3, padding="same", activation="relu", name="low")(x)
    x = layers.MaxPooling3D(2)(x)
    x = layers.Conv3D(4, (1, 2, 3), activation="relu", name="high")(x)
    return keras.Model(start, layers.Dense(3, name="out")(layers.GlobalAveragePooling3D()(x)))


def same_padding(keras: Any) -> Any:
    """Stride 2 with `same` padding on even and odd sizes: convolution, largest and mean pooling."""
    layers = keras.layers
    x = start = keras.Input((30, 30, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(6, 5, strides=2, padding="same", activation="relu", name="body")(x)
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    return keras.Model(start, layers.Conv2D(4, 1, name="map")(x))


def depthwise(keras: Any) -> Any:
    """Depthwise convolutions with multiplier 1 and 2."""
    layers = keras.layers
    x = start = keras.Input((10, 10, 4))
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="single")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="double")(x)
    return keras.Model(start, layers.Conv2D(4, 1, name="mix")(x))


def separable(keras: Any) -> Any:
    """Separable convolutions: one bias, on the pointwise part."""
    layers = keras.layers
    x = start = keras.Input((10, 10, 3))
    x = layers.SeparableConv2D(6, 3, padding="same", activation="relu", name="sep_a")(x)
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, strides=2, padding="same", activation="relu", name="sep_b")(x)
    x = layers.Reshape((25, 6))(x)
    x = layers.SeparableConv1D(4, 3, padding="valid", activation="relu", name="sep_c")(x)
    return keras.Model(start, layers.GlobalAveragePooling1D()(x))


def grouped(keras: Any) -> Any:
    """Grouped and dilated convolutions."""
    layers = keras.layers
    x = start = keras.Input((12, 12, 4))
    x = layers.Conv2D(8, 3, groups=4, padding="same", activation="relu", name="grouped")(x)
    x = layers.Conv2D(8, 3, dilation_rate=2, activation="relu", name="dilated")(x)
    x = layers.Conv2D(8, 3, groups=2, dilation_rate=2, padding="same", name="both")(x)
    return keras.Model(start, x)


def transposed_same(keras: Any) -> Any:
    """Transposed convolutions of `same` padding, odd and even kernels."""
    layers = keras.layers
    x = start = keras.Input((5, 5, 4))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu", name="up_a")(x)
    x = layers.Conv2DTranspose(4, 4, strides=2, padding="same", activation="relu", name="up_b")(x)
    return keras.Model(start, layers.Conv2D(2, 3, padding="same", name="draw")(x))


def transposed_valid(keras: Any) -> Any:
    """Transposed convolutions of `valid` padding, one with a kernel smaller than its stride."""
    layers = keras.layers
    x = start = keras.Input((4, 4, 3))
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="valid", activation="relu", name="up_a")(x)
    x = layers.Conv2DTranspose(3, 2, strides=3, padding="valid", name="up_b")(x)
    return keras.Model(start, x)


def batchnorm(keras: Any) -> Any:
    """BatchNorm with every combination of scale and center, and other epsilons."""
    layers = keras.layers
    x = start = keras.Input((8, 8, 3))
    flags = ((True, True, 1e-3), (True, False, 1e-5), (False, True, 1e-4), (False, False, 1e-2))
    for index, (scale, center, epsilon) in enumerate(flags):
        x = layers.Conv2D(6, 3, padding="same", use_bias=not center, name=f"conv_{index}")(x)
        x = layers.BatchNormalization(scale=scale, center=center, epsilon=epsilon, name=f"norm_{index}")(x)
        x = layers.ReLU()(x)
    return keras.Model(start, layers.Dense(4, name="scores")(layers.GlobalAveragePooling2D()(x)))


def lstm(keras: Any) -> Any:
    """Two LSTM layers on each other, input and state of one size."""
    layers = keras.layers
    x = start = keras.Input((7, 6))
    x = layers.LSTM(6, return_sequences=True, name="lower")(x)
    x = layers.LSTM(6, name="upper")(x)
    return keras.Model(start, layers.Dense(3, name="out")(x))


def gru(keras: Any) -> Any:
    """A GRU with the reset gate after the product, as PyTorch has it."""
    layers = keras.layers
    x = start = keras.Input((7, 5))
    x = layers.GRU(6, reset_after=True, return_sequences=True, name="recurrent")(x)
    return keras.Model(start, layers.Dense(3, name="out")(x))


def gru_reset_before(keras: Any) -> Any:
    """A GRU with the reset gate before the product, which `nn.GRU` cannot represent."""
    layers = keras.layers
    x = start = keras.Input((7, 5))
    return keras.Model(start, layers.Dense(3, name="out")(layers.GRU(6, reset_after=False, name="recurrent")(x)))


def bidirectional(keras: Any) -> Any:
    """Recurrent layers in both directions: LSTM, then GRU."""
    layers = keras.layers
    x = start = keras.Input((7, 6))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both_lstm")(x)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both_gru")(x)
    return keras.Model(start, layers.Dense(6, name="out")(x))


def simple_rnn(keras: Any) -> Any:
    """The plain recurrent layer, with a square kernel."""
    layers = keras.layers
    x = start = keras.Input((6, 5))
    return keras.Model(start, layers.Dense(5, name="out")(layers.SimpleRNN(5, name="plain")(x)))


def attention(keras: Any) -> Any:
    """Self-attention, then attention to a second sequence; every width is 8."""
    layers = keras.layers
    one, two = keras.Input((6, 8)), keras.Input((5, 8))
    x = layers.MultiHeadAttention(2, 4, name="self")(one, one)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(layers.Add()([one, x]))
    x = layers.MultiHeadAttention(2, 4, name="cross")(x, two)
    return keras.Model([one, two], layers.Dense(8, name="out")(x))


def attention_linears(keras: Any) -> Any:
    """Self-attention whose counterpart has one Linear for each of query, key, value and output."""
    layers = keras.layers
    x = start = keras.Input((6, 8))
    x = layers.MultiHeadAttention(4, 2, name="look")(x, x)
    return keras.Model(start, layers.Dense(8, name="out")(x))


def embeddings(keras: Any) -> Any:
    """Two embeddings, of which one is square, and a LayerNorm."""
    layers = keras.layers
    words, kinds = keras.Input((6,), dtype="int32"), keras.Input((6,), dtype="int32")
    x = layers.Add()([layers.Embedding(16, 8, name="word")(words), layers.Embedding(8, 8, name="kind")(kinds)])
    x = layers.LayerNormalization(name="norm")(x)
    return keras.Model([words, kinds], layers.Dense(8, name="out")(layers.GlobalAveragePooling1D()(x)))


def norms(keras: Any) -> Any:
    """Layer and group norm of several epsilons."""
    layers = keras.layers
    x = start = keras.Input((6, 6, 8))
    x = layers.GroupNormalization(4, epsilon=1e-3, name="groups")(x)
    x = layers.Conv2D(8, 1, name="mix")(x)
    x = layers.GroupNormalization(2, epsilon=1e-5, name="halves")(x)
    x = layers.LayerNormalization(epsilon=1e-2, name="channels")(x)
    return keras.Model(start, x)


def prelu(keras: Any) -> Any:
    """PReLU with one slope per channel."""
    layers = keras.layers
    x = start = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="conv_a")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="slope_a")(x)
    x = layers.Conv2D(6, 3, name="conv_b")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="slope_b")(x)
    x = layers.Dense(4, name="out")(layers.GlobalMaxPooling2D()(x))
    return keras.Model(start, layers.LeakyReLU(name="leaky")(x))


def nested(keras: Any) -> Any:
    """A model in a model in a model; the inner ones are twins."""
    layers = keras.layers

    def block(name: str) -> Any:
        return keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(8, activation="relu", name=f"{name}_in"),
                layers.Dense(8, name=f"{name}_out"),
            ],
            name=name,
        )

    x = inner = keras.Input((8,))
    middle = keras.Model(inner, layers.Add()([block("left")(x), block("right")(x)]), name="middle")
    start = keras.Input((8,))
    return keras.Model(start, layers.Dense(3, name="scores")(layers.ReLU()(middle(start))))


def shared(keras: Any) -> Any:
    """One encoder for two inputs, and one dense layer that runs three times."""
    layers = keras.layers
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    conv, fold = layers.Conv2D(4, 3, activation="relu", name="eye"), layers.Dense(4, activation="tanh", name="again")
    sides = [layers.GlobalAveragePooling2D()(conv(side)) for side in (left, right)]
    x = layers.Subtract()([fold(fold(sides[0])), fold(sides[1])])
    return keras.Model([left, right], layers.Dense(4, name="verdict")(x))


def twelve_convs(keras: Any) -> Any:
    """Twelve equal convolutions with the names that Keras gives: `conv2d_10` stands before `conv2d_2`."""
    layers = keras.layers
    x = start = keras.Input((6, 6, 4))
    for _ in range(12):
        x = layers.Conv2D(4, 3, padding="same", activation="tanh")(x)
    return keras.Model(start, x)


def twins(keras: Any) -> Any:
    """Two branches of equal shapes whose outputs are subtracted."""
    layers = keras.layers
    x = start = keras.Input((10, 10, 3))
    sides = []
    for side in ("photo", "sketch"):
        y = layers.Conv2D(6, 3, activation="relu", name=f"{side}_a")(x)
        y = layers.Conv2D(6, 3, activation="relu", name=f"{side}_b")(y)
        sides.append(layers.Dense(6, name=f"{side}_c")(layers.GlobalAveragePooling2D()(y)))
    return keras.Model(start, layers.Subtract()(sides))


def square_dense(keras: Any) -> Any:
    """Four dense layers of eight to eight: shapes say nothing about what is transposed, or which is which."""
    layers = keras.layers
    kinds = ("relu", "tanh", "sigmoid", None)
    stack = [layers.Dense(8, activation=kind, name=f"square_{index}") for index, kind in enumerate(kinds)]
    return keras.Sequential([keras.Input((8,)), *stack])


def flatten_permuted(keras: Any) -> Any:
    """`Flatten` of maps, for a module that puts the channels last itself before it flattens."""
    layers = keras.layers
    x = start = keras.Input((9, 9, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="eye")(x)
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    return keras.Model(start, layers.Dense(5, name="out")(x))


def preprocessing(keras: Any) -> Any:
    """Normalisation and rescaling inside the model: the former holds weights."""
    layers = keras.layers
    scale = layers.Normalization(name="standardise")
    scale.adapt(np.random.default_rng(0).normal(3.0, 2.0, (64, 8, 8, 3)).astype(np.float32))
    x = start = keras.Input((8, 8, 3))
    x = layers.Rescaling(0.5, offset=1.0)(scale(x))
    x = layers.Conv2D(4, 3, activation="elu", name="conv")(x)
    return keras.Model(start, layers.Dense(4, name="out")(layers.GlobalAveragePooling2D()(x)))


def layer_kinds(network: Any) -> dict[str, str]:
    """The layers of the network and of the networks in it: by name, their class and the shapes of their weights."""
    kinds = {}
    for layer in network.layers:
        kinds[layer.name] = f"{type(layer).__name__} {[tuple(weight.shape) for weight in layer.weights]}"
        if hasattr(layer, "layers"):
            kinds |= layer_kinds(layer)
    return kinds


def renamed(network: Any, names: Mapping[str, str]) -> Any:
    """The same network with other names of layers, from its own configuration."""
    other = type(network).from_config(with_names(network.get_config(), names))
    other.set_weights(network.get_weights())
    return other


def with_names(config: Any, names: Mapping[str, str], key: str = "") -> Any:
    """A configuration in which layers have other names, where they are stated and where they are referred to."""
    if isinstance(config, dict):
        return {each: with_names(value, names, each) for each, value in config.items()}
    if isinstance(config, (list, tuple)):
        refers = len(config) >= 3 and isinstance(config[0], str) and isinstance(config[1], int)
        parts = [with_names(value, names, "name" if refers and not index else "") for index, value in enumerate(config)]
        return type(config)(parts)
    return names.get(config, config) if key == "name" and isinstance(config, str) else config


NETWORKS = {
    build.__name__: build
    for build in (
        conv1d, conv2d, conv3d, same_padding, depthwise, separable, grouped, transposed_same, transposed_valid,
        batchnorm, lstm, gru, gru_reset_before, bidirectional, simple_rnn, attention, attention_linears, embeddings,
        norms, prelu, nested, shared, large.resnet, large.mobilenet, large.efficientnet, large.vit, large.bert,
        large.twelve_blocks, twelve_convs, twins, square_dense, large.unet, large.densenet, flatten_permuted,
        preprocessing, other.masked, other.masking, other.channels_first, other.channels_first_as_they_are,
    )
}  # fmt: skip
