"""Layers of Keras with one number for each element of a map, and maps that the network itself turns.

Needs keras==3.15.1 on any backend (`pip install keras jax`).
Run: `KERAS_BACKEND=jax python tests/porting/make/keras_maps.py tests/porting/files/keras_maps`.
Beside each network its inputs and outputs, with channels last.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

INPUT = (5, 4, 2)  # height, width, channels


def whole_maps():
    """PReLU and LayerNormalization over (height, width, channels), which are of three sizes."""
    start = keras.Input(INPUT)
    x = layers.PReLU(name="slope")(layers.Conv2D(3, 3, padding="same", name="conv")(start))
    x = layers.LayerNormalization(axis=[1, 2, 3], name="norm")(x)
    return keras.Model(start, layers.Dense(2, name="head")(layers.Flatten()(x)))


def turned():
    """Keras turns its maps before it flattens them, to (channels, height, width)."""
    start = keras.Input(INPUT)
    x = layers.Conv2D(3, 3, padding="same", name="conv")(start)
    return keras.Model(start, layers.Dense(2, name="head")(layers.Flatten()(layers.Permute((3, 1, 2))(x))))


def main(folder: Path) -> None:
    """Write both."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    for make in (whole_maps, turned):
        model = make()
        model.set_weights([chance.standard_normal(value.shape).astype("float32") for value in model.get_weights()])
        inputs = chance.standard_normal((3, *INPUT)).astype("float32")
        model.save(folder / f"{make.__name__}.keras")
        model.save_weights(folder / f"{make.__name__}.weights.h5")
        np.savez(folder / f"{make.__name__}.npz", inputs=inputs, outputs=np.asarray(model(inputs)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
