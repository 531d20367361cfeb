"""Two norms side by side whose outputs are subtracted: only a run tells them apart.

Needs `keras==3.15.1 jax` in an environment of its own:

    KERAS_BACKEND=jax python tests/porting/make/keras_branches.py tests/porting/files/interpreting/branches.keras
"""

import sys

import keras
import numpy as np


def main():
    """Build, fill and save it."""
    start = keras.Input((4,), name="x")
    sides = [keras.layers.LayerNormalization(epsilon=0.5, name=name)(start) for name in ("p", "q")]
    network = keras.Model(start, keras.layers.Subtract(name="end")(sides))
    random = np.random.default_rng(0)
    for variable in network.weights:
        variable.assign(random.standard_normal(variable.shape))
    network.save(sys.argv[1])


if __name__ == "__main__":
    main()
