"""Write the files of `tests/porting/files/weight_norms`: layers under a norm, as Flax and Keras save them.

Needs jax==0.10.2, flax==0.12.8 and keras==3.15.1 (`pip install jax flax keras`).
Run: `KERAS_BACKEND=jax python tests/porting/make/weight_norms.py` from the root of the repository.
Beside each file lies a `.npz` with inputs and what the network gives for them; inputs with channels last.
"""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import serialization

OUT = Path(__file__).parents[1] / "files" / "weight_norms"


class Weighted(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.WeightNorm(nn.Conv(4, (3, 3), padding="VALID", name="see"))(x))
        x = nn.relu(nn.WeightNorm(nn.ConvTranspose(4, (2, 2), (2, 2), padding="VALID", name="grow"))(x))
        return nn.WeightNorm(nn.Dense(4, name="say"))(x.mean((1, 2)))


class Spectral(nn.Module):
    @nn.compact
    def __call__(self, x, update_stats=False):
        x = nn.relu(nn.SpectralNorm(nn.Conv(4, (3, 3), padding="VALID", name="see"))(x, update_stats=update_stats))
        return nn.SpectralNorm(nn.Dense(3, name="say"))(x.mean((1, 2)), update_stats=update_stats)


def drawn(tree, seed):
    """Other numbers than those of the beginning: scales that are not 1, and kernels of any length."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        structure, [jax.random.normal(key, one.shape) for key, one in zip(keys, leaves, strict=True)]
    )


def of_flax():
    x = np.random.default_rng(0).normal(size=(3, 6, 7, 2)).astype("f4")
    whole = {"params": drawn(Weighted().init(jax.random.key(0), x)["params"], 1)}
    save("flax_weight", whole, x, Weighted().apply(whole, x))
    whole = Spectral().init(jax.random.key(0), x)
    whole = {"params": drawn(whole["params"], 2), "batch_stats": whole["batch_stats"]}
    for _ in range(2):
        _, changed = Spectral().apply(whole, x, update_stats=True, mutable=["batch_stats"])
        whole = {"params": whole["params"], **changed}
    save("flax_spectral", whole, x, Spectral().apply(whole, x, mutable=["batch_stats"])[0])


def save(name, whole, x, outputs):
    (OUT / f"{name}.msgpack").write_bytes(serialization.to_bytes(whole))
    np.savez_compressed(OUT / f"{name}.npz", inputs=x, outputs=np.asarray(outputs))


def of_keras():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([
        layers.Input((6, 7, 2)), layers.SpectralNormalization(layers.Conv2D(4, 3, activation="relu"), name="see"),
        layers.GlobalAveragePooling2D(), layers.SpectralNormalization(layers.Dense(3), name="say"),
    ])  # fmt: skip
    x = np.random.default_rng(0).normal(size=(8, 6, 7, 2)).astype("f4")
    model.compile("sgd", "mse")
    model.fit(x, np.ones((8, 3)), verbose=0)
    model.save(OUT / "keras_spectral.keras")
    model.save_weights(OUT / "keras_spectral.weights.h5")
    np.savez_compressed(OUT / "keras_spectral.npz", inputs=x, outputs=np.asarray(model(jnp.asarray(x))))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    of_flax()
    of_keras()
