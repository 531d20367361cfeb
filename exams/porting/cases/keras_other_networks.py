"""Networks of Keras that are rarer: masks, channels on axis 1, classes with a `call` of their own.

Each builder takes the package and gives a model, as those of `keras_networks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from golden import images, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

MASKED = ("masked", "masking")


def masked(keras: Any) -> Any:
    """An embedding that masks word 0, and an LSTM that leaves out what is masked."""
    layers = keras.layers
    words = keras.Input((7,), dtype="int32")
    x = layers.Embedding(8, 6, mask_zero=True, name="words")(words)
    return keras.Model(words, layers.Dense(4, name="out")(layers.LSTM(5, name="memory")(x)))


def masking(keras: Any) -> Any:
    """Masked steps, a GRU, and the mean of the steps that are left."""
    layers = keras.layers
    x = start = keras.Input((7, 5))
    x = layers.GRU(6, return_sequences=True, name="memory")(layers.Masking()(x))
    return keras.Model(start, layers.Dense(4, name="out")(layers.GlobalAveragePooling1D()(x)))


def channels_first(keras: Any) -> Any:
    """Channels on axis 1 of images; `Flatten` is told so, and puts them last before it flattens."""
    return _channels_first(keras, keras.layers.Flatten(data_format="channels_first"))


def channels_first_as_they_are(keras: Any) -> Any:
    """Channels on axis 1 of images; `Flatten` is not told, and flattens channels first."""
    return _channels_first(keras, keras.layers.Flatten(data_format="channels_last"))


def _channels_first(keras: Any, flatten: Any) -> Any:
    layers, first = keras.layers, {"data_format": "channels_first"}
    x = start = keras.Input((3, 12, 12))
    x = layers.Conv2D(8, 3, activation="relu", name="edges", **first)(x)
    x = layers.BatchNormalization(axis=1, name="norm")(layers.MaxPooling2D(2, **first)(x))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="shapes", **first)(x)
    return keras.Model(start, layers.Dense(5, name="scores")(flatten(x)))


def subclassed(keras: Any) -> Any:
    """A class with a list of blocks, which are classes, too."""
    layers = keras.layers

    class Block(layers.Layer):
        """Convolution, norm, and the way past both."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.conv = layers.Conv2D(8, 3, padding="same", name="conv")
            self.norm = layers.BatchNormalization(epsilon=1e-3, name="norm")

        def call(self, x: Any) -> Any:
            return x + keras.activations.relu(self.norm(self.conv(x), training=False))

    class Network(keras.Model):
        """A stem, three blocks, a head."""

        def __init__(self) -> None:
            super().__init__(name="network")
            self.head = layers.Dense(5, name="head")
            self.stem = layers.Conv2D(8, 3, name="stem")
            self.steps = [Block(name=f"step_{index}") for index in range(3)]
            self.pool = layers.GlobalAveragePooling2D()

        def call(self, x: Any) -> Any:
            x = self.stem(x)
            for step in self.steps:
                x = step(x)
            return self.head(self.pool(x))

    return Network()


def tied(keras: Any) -> Any:
    """A language model whose table of words is the matrix of its outputs, too."""
    layers = keras.layers

    class Network(keras.Model):
        """Words and places, one attention, and a score for each word."""

        def __init__(self) -> None:
            super().__init__(name="network")
            self.words, self.places = layers.Embedding(16, 8, name="words"), layers.Embedding(6, 8, name="places")
            self.look = layers.MultiHeadAttention(2, 4, name="look")
            self.norm = layers.LayerNormalization(epsilon=1e-6, name="norm")
            self.mix = layers.Dense(8, activation="tanh", name="mix")
            self.shift = self.add_weight(shape=(16,), name="shift")

        def call(self, words: Any) -> Any:
            x = self.words(words) + self.places(keras.ops.arange(6))
            x = self.mix(self.norm(x + self.look(x, x)))
            return keras.ops.matmul(x, keras.ops.transpose(self.words.embeddings)) + self.shift

    return Network()


CLASSES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], np.ndarray]]] = {  # with an example of the input
    "subclassed": (subclassed, lambda random: images(random, 3, 10, 10, 3)),
    "tied": (tied, lambda random: tokens(random, 3, 6, size=16)),
}


def ended(value: np.ndarray) -> np.ndarray:
    """Steps of which each sample has one less than the one before it; zeros stand behind its end."""
    value = np.where(value == 0, 1, value).astype(value.dtype)
    for index, sample in enumerate(value):
        sample[len(sample) - index :] = 0
    return value
