"""Networks written as classes: Keras stores them by the names of attributes, in an order that nothing runs in.

Needs tensorflow==2.21.0, tf_keras==2.21.0 and keras==3.15.1 (`pip install tensorflow tf_keras`).
Run: `KERAS_BACKEND=tensorflow python tests/porting/make/keras_subclassed.py tests/porting/files/keras_subclassed`.
The kernel of the layer that runs first is full of zeros, that of the second of ones, and so on.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tf_keras


def network(package):
    """`first`, `stack[0]`, `stack[1]`, `last` run in this order."""

    class Network(package.Model):
        def __init__(self):
            super().__init__()
            self.stack = [package.layers.Dense(4, use_bias=False) for _ in range(2)]
            self.last = package.layers.Dense(4, use_bias=False)
            self.first = package.layers.Dense(4, use_bias=False)

        def call(self, x):
            return self.last(self.stack[1](self.stack[0](self.first(x))))

    made = Network()
    made(np.zeros((1, 4), "float32"))
    for number, layer in enumerate((made.first, *made.stack, made.last)):
        layer.set_weights([np.full((4, 4), float(number))])
    return made


def chain(package):
    """A functional model whose layers were made in another order than they run in."""
    second, first = (package.layers.Dense(4, use_bias=False, name=name) for name in ("abc", "xyz"))
    start = package.Input((4,))
    made = package.Model(start, second(first(start)))
    first.set_weights([np.zeros((4, 4))])
    second.set_weights([np.ones((4, 4))])
    return made


def main():
    """Write all of them."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    network(keras).save_weights(folder / "keras3.weights.h5")
    network(tf_keras).save_weights(folder / "tf_keras.h5")
    network(tf_keras).save_weights(folder / "objects", save_format="tf")
    chain(keras).save_weights(folder / "chain.weights.h5")
    chain(tf_keras).save_weights(folder / "chain", save_format="tf")
    (folder / "checkpoint").unlink()


if __name__ == "__main__":
    main()
