"""A SavedModel of tf_keras with a tower that is called twice, two inputs and two outputs, and what it gives.

Run in an environment with tf_keras 2.21 and TensorFlow 2.21: `python tf_keras_shared.py ../files/tensorflow`.
The graph (`saved_model.pb`) is emptied: nothing of it is read where `keras_metadata.pb` lies beside it.
"""

import sys
from pathlib import Path

import numpy as np
import tf_keras
from tf_keras import layers


def main():
    """Build, run and save."""
    folder = Path(sys.argv[1])
    tf_keras.utils.set_random_seed(0)
    left, right = tf_keras.Input((4,), name="left"), tf_keras.Input((4,), name="right")
    tower = tf_keras.Sequential([layers.Dense(5, activation="relu"), layers.Dense(3)], name="tower")
    apart = layers.Subtract()([tower(left), tower(right)])
    hidden = layers.Dense(6, activation="tanh", name="trunk")(layers.Concatenate()([apart, tower(left)]))
    outputs = [layers.Dense(3, activation="softmax", name="kind")(hidden), layers.Dense(1, name="size")(hidden)]
    model = tf_keras.Model([left, right], outputs)
    model.save(folder / "saved_shared", save_format="tf")
    (folder / "saved_shared" / "saved_model.pb").write_bytes(b"\x08\x01")
    (folder / "saved_shared" / "fingerprint.pb").unlink()
    (folder / "saved_shared" / "assets").rmdir()
    random = np.random.default_rng(0)
    inputs = [random.normal(size=(5, 4)).astype("float32") for _ in range(2)]
    kind, size = (one.numpy() for one in model(inputs))
    np.savez(folder / "saved_shared.npz", left=inputs[0], right=inputs[1], kind=kind, size=size)


if __name__ == "__main__":
    main()
