"""Small files as Keras 2 writes them, by name and by number, each with its arrays as Keras sees them (`.npz`).

Needs `tensorflow==2.21.0 tf_keras==2.21.0` in an environment of its own:

    python tests/porting/make/keras_h5.py tests/porting/files/keras_h5
"""

import sys
from pathlib import Path

import numpy as np
import tf_keras
from tf_keras import layers


def network():
    """A model in a model in a model, a frozen layer, operations on tensors, attention, recurrence, a shared layer."""
    stem = tf_keras.Input((8, 8, 3))
    inner = tf_keras.Sequential(
        [layers.Conv2D(4, 3, name="deep"), layers.BatchNormalization(name="deep_bn")], name="inner"
    )
    body = tf_keras.Model(stem, inner(layers.Conv2D(4, 3, name="stem")(stem)), name="body")
    image = tf_keras.Input((8, 8, 3), name="image")
    x = layers.DepthwiseConv2D(1, trainable=False, name="frozen")(body(image))
    x = layers.Reshape((16, 4), name="tokens")(x * 2.0 + x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both")(x)
    x = layers.TimeDistributed(layers.Dense(3), name="each")(x)
    x = layers.Lambda(lambda values: values + 1, name="code")(layers.GRU(3, name="gru")(x))
    shared = layers.Dense(3, name="shared")
    return tf_keras.Model(image, shared(shared(x)))


class Classes(tf_keras.Model):
    """A model of classes with a variable of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(2), layers.Dense(2)
        self.scale = self.add_weight(name="scale", shape=(2,))

    def call(self, x):
        """Run the layers in order."""
        return self.second(self.first(x)) * self.scale


def save(folder, name, model):
    """The arrays of a model whose values are all different."""
    generator = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    np.savez_compressed(folder / f"{name}.npz", **{v.name.removesuffix(":0"): v.numpy() for v in model.weights})


def main(folder):
    """Write all of them."""
    model = network()
    save(folder, "network", model)
    model.save(folder / "network.h5")
    model.save_weights(folder / "weights.h5")
    model = tf_keras.Sequential([layers.Dense(2, input_shape=(2,), name="only")])
    model.compile(tf_keras.optimizers.legacy.SGD(0.1, momentum=0.9), "mse")
    model.fit(np.zeros((2, 2)), np.zeros((2, 2)), verbose=0)
    save(folder, "trained", model)
    model.save(folder / "trained.h5")
    tokens = tf_keras.Input((3, 2))
    x = layers.MultiHeadAttention(2, 2, name="attention")(tokens, tokens)
    x = layers.RNN([layers.GRUCell(2), layers.LSTMCell(2), layers.GRUCell(2)], name="stack")(x)
    model = tf_keras.Model(tokens, layers.Dense(1, name="head")(x))
    model.compile(tf_keras.optimizers.SGD(0.1), "mse")
    model.fit(np.zeros((2, 3, 2)), np.zeros((2, 1)), verbose=0)
    save(folder, "numbers", model)
    model.save(folder / "numbers.keras")
    tf_keras.backend.clear_session()
    model = Classes()
    model(np.ones((1, 2)))
    save(folder, "classes", model)
    model.save_weights(folder / "classes.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
