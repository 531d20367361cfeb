"""The network of the demo's last act, trained and saved by Keras 3: `src/frostline/demo/digits.keras`.

Needs `keras==3.15.1 jax h5py` in an environment of its own, and the digits, which frostline writes:

    python -c "from pathlib import Path; from frostline.demo.data import *; \
        [save_arrays(Path(f'{n}.npz'), t) for n, t in zip(('train', 'test'), load_digits_task(range(10)))]"
    KERAS_BACKEND=jax python tests/porting/make/keras_demo.py train.npz test.npz src/frostline/demo/digits.keras

It prints the accuracy that Keras itself measures, which `demo_port.py` states.
"""

import sys

import keras
import numpy as np
from keras import layers


def digits(path):
    """Images with channels last, and labels."""
    with np.load(path) as arrays:
        return np.moveaxis(arrays["x"], 1, -1), arrays["y"]


def main(train, test, out):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        layers.Input((32, 32, 1)),
        layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="strokes"),
        layers.BatchNormalization(name="strokes_bn"), layers.ReLU(),
        layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="corners"),
        layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="shapes"),
        layers.Flatten(), layers.Dense(10, activation="softmax", name="digit"),
    ])  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*digits(train), epochs=30, batch_size=32, verbose=0)
    _, accuracy = model.evaluate(*digits(test), verbose=0)
    keras.Sequential([keras.Input((32, 32, 1)), *model.layers]).save(out)  # not compiled: no slots of the optimizer
    sys.stdout.write(f"accuracy {accuracy:.4f}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
