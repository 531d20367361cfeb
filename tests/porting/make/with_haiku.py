"""Write the Haiku files of `tests/porting/files/haiku`.

Needs dm-haiku==0.0.17 and jax==0.10.2 (`pip install dm-haiku jax`).
Run: `python tests/porting/make/with_haiku.py` from the root of the repository.
Each `NAME.npz` has the parameters and the state of a network by `module/name`, as Haiku itself names them
(`own_names` under `params/` and `state/`); beside it lies `NAME.golden.npz` with inputs and the
outputs that Haiku computes.
"""

from pathlib import Path

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

OUT = Path(__file__).parents[1] / "files" / "haiku"


def convolutions(x, is_training=False):
    x = jax.nn.relu(hk.Conv2D(6, 3, padding="VALID")(x))
    x = hk.BatchNorm(True, True, 0.9)(x, is_training)
    x = hk.Conv2DTranspose(6, 3, padding="VALID")(x)
    x = hk.GroupNorm(2)(x).mean((1, 2))
    return hk.Linear(4)(jax.nn.relu(hk.Linear(6)(x)))


def transposed(x):
    return hk.Conv2DTranspose(4, 3, padding="VALID")(x)


def lstm(x):
    state = hk.LSTMState(jnp.zeros((len(x), 8)), jnp.zeros((len(x), 8)))
    x, _ = hk.dynamic_unroll(hk.LSTM(8), x, state, time_major=False)
    return hk.LayerNorm(-1, True, True)(x)


def gru(x):
    x, _ = hk.dynamic_unroll(hk.GRU(8), x, jnp.zeros((len(x), 8)), time_major=False)
    return hk.Linear(3)(x)


def attention(x):
    return hk.MultiHeadAttention(2, 4, w_init_scale=1.0, model_size=8)(x, x, x)


def words(x):
    return hk.Linear(2)(hk.Embed(7, 5)(x).mean(1))


def own_names(x, is_training=False):
    """Modules that all have names of the user's own."""
    x = hk.Conv2D(6, 3, name="c1")(x)
    x = jax.nn.relu(hk.BatchNorm(True, True, 0.9, name="bn1")(x, is_training))
    x = hk.GroupNorm(2, name="gn")(hk.Conv2DTranspose(6, 2, stride=2, name="up")(x))
    return hk.Linear(4, name="head")(x.mean((1, 2)))


def rnn(x):
    x, _ = hk.dynamic_unroll(hk.VanillaRNN(8), hk.Linear(8)(x), jnp.zeros((len(x), 8)), time_major=False)
    return hk.Linear(3)(x)


def main():
    rng = np.random.default_rng(0)
    image, sequence = (rng.normal(size=shape).astype("f4") for shape in ((2, 7, 7, 4), (2, 5, 4)))
    inputs = {
        convolutions: image, transposed: image, lstm: sequence, gru: sequence,
        attention: rng.normal(size=(2, 5, 8)).astype("f4"), words: rng.integers(0, 7, (2, 5)).astype("i4"),
        own_names: image, rnn: sequence,
    }  # fmt: skip
    OUT.mkdir(parents=True, exist_ok=True)
    for network, x in inputs.items():
        made = hk.without_apply_rng(hk.transform_with_state(network))
        options = {"is_training": True} if network in (convolutions, own_names) else {}
        trees = made.init(jax.random.key(0), x, **options)
        weights, state = trees
        weights = jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), weights)
        trees = weights, jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.2, 0.9, a.shape), a.dtype), state)
        outputs, _ = made.apply(*trees, x)
        roots = ("params/", "state/") if network is own_names else ("", "")
        arrays = {f"{root}{module}/{name}": np.asarray(one) for root, tree in zip(roots, trees, strict=True)
                  for module, own in tree.items() for name, one in own.items()}  # fmt: skip
        np.savez_compressed(OUT / f"{network.__name__}.npz", **arrays)
        np.savez_compressed(OUT / f"{network.__name__}.golden.npz", inputs=x, outputs=np.asarray(outputs))


main()
