"""Networks of Flax's nnx, of Haiku and of Equinox, saved as their guides do, and networks named as Hugging Face's Flax.

nnx: msgpack and Orbax of the pure dictionary, Orbax of the state itself. Haiku and Equinox have no format of their own
with names: `.npz` by module and leaf, as published weights are, and Equinox's file of leaves without names. Run by
`exams.porting.build` in the environment `jax`: python from_jax.py FOLDER [CASE ...]
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx, serialization
from golden import Folder, chosen, images, random_value, seeded, tokens

Array = Any
Tree = Any


class Eye(nnx.Module):
    """Convolutions, a norm, and dense layers after a flattening of height, width, channels."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(3, 8, (3, 3), padding="VALID", rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, epsilon=1e-3, rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), strides=2, padding="VALID", feature_group_count=2, rngs=rngs)
        self.hidden, self.scores = nnx.Linear(128, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = nnx.relu(self.conv2(nnx.relu(self.norm(self.conv1(x)))))
        return self.scores(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class Block(nnx.Module):
    """One transformer block."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = nnx.LayerNorm(8, rngs=rngs), nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))


class Reader(nnx.Module):
    """An embedding, three blocks in a list, a head."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(16, 8, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(3)])
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, words: Array) -> Array:
        x = self.words(words)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def filled(tree: Tree, name: str) -> Tree:
    """Random values in place of those of float kind."""
    random = seeded("jax " + name)

    def value(path: tuple[Any, ...], old: Any) -> Any:
        if not jnp.issubdtype(getattr(old, "dtype", np.int32), jnp.floating):
            return old
        return jnp.asarray(random_value(random, joined(path), old.shape))

    return jax.tree_util.tree_map_with_path(value, tree)


def joined(path: tuple[Any, ...]) -> str:
    """The names of a path in a tree."""
    parts = (getattr(part, "key", getattr(part, "name", getattr(part, "idx", None))) for part in path)
    return "/".join(str(part) for part in parts)


def flat(tree: Tree) -> dict[str, np.ndarray]:
    """Arrays of float kind by path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {joined(path): np.asarray(leaf) for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}


def orbax(tree: Tree, at: str) -> None:
    """A checkpoint in a folder."""
    shutil.rmtree(at, ignore_errors=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(at).absolute(), tree)


def put_nnx(folder: Folder, name: str, network: nnx.Module, value: np.ndarray) -> None:
    """Store a network of nnx."""
    definition, state, rest = nnx.split(network, nnx.Any(nnx.Param, nnx.BatchStat), ...)
    pure = filled(nnx.to_pure_dict(state), name)
    nnx.replace_by_pure_dict(state, pure)
    save = {
        "model.msgpack": lambda at: Path(at).write_bytes(serialization.to_bytes(with_text(pure))),
        "orbax": lambda at: orbax(pure, at),
        "state_orbax": lambda at: orbax(state, at),
    }
    outputs = [nnx.merge(definition, state, rest)(value)]
    folder.put(name, arrays=flat(pure), inputs=[value], outputs=outputs, save=save)


def with_text(tree: Tree) -> Tree:
    """The same with the numbers of lists as text, which msgpack needs."""
    return {str(key): with_text(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def hk_eye(x: Array, *, is_training: bool = False) -> Array:
    """Convolutions, a norm, dense layers."""
    x = jax.nn.relu(hk.Conv2D(8, 3, padding="VALID")(x))
    x = jax.nn.relu(
        hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9, eps=1e-3)(x, is_training=is_training)
    )
    x = jax.nn.relu(hk.Conv2D(8, 3, stride=2, padding="VALID")(x))
    return hk.nets.MLP([8, 8])(x.reshape(len(x), -1))


def hk_squares(x: Array) -> Array:
    """Square layers: nothing but their names tells their layout."""
    for kind in (jax.nn.relu, jnp.tanh, jax.nn.sigmoid):
        x = kind(hk.Linear(8)(x))
    return hk.Linear(8)(x)


def put_haiku(folder: Folder, name: str, function: Any, value: np.ndarray) -> None:
    """Store a network of Haiku."""
    network = hk.without_apply_rng(hk.transform_with_state(function))
    start = hk.transform_with_state(partial(function, is_training=True) if name == "eye" else function)
    params, state = (filled(tree, name) for tree in start.init(jax.random.key(0), value))
    for module in [module for module in state if module.endswith("var_ema")]:
        state[module]["average"] = abs(state[module]["average"]) + 0.5
    arrays = {
        f"{module}/{leaf}": np.asarray(value)
        for module, part in (*params.items(), *state.items())
        for leaf, value in part.items()
    }
    weights = {key: v for key, v in arrays.items() if not key.endswith(("counter", "hidden"))}
    save = {
        "model.npz": lambda at: np.savez(at, **arrays),
        "slashes.npz": lambda at: np.savez(at, **{"//".join(key.rsplit("/", 1)): v for key, v in weights.items()}),
    }
    outputs = [network.apply(params, state, value)[0]]
    folder.put(name, arrays=weights, inputs=[value], outputs=outputs, save=save)


class Layers(eqx.Module):
    """Layers in a list; each sample is seen alone."""

    layers: list

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer(x)
        return x


def eqx_squares(key: Array) -> Layers:
    """Square layers, laid out as PyTorch has them."""
    kinds = (jax.nn.relu, jnp.tanh, jax.nn.sigmoid, lambda x: x)
    return Layers([part for kind in kinds for part in (eqx.nn.Linear(8, 8, key=key), eqx.nn.Lambda(kind))][:-1])


def eqx_eye(key: Array) -> Layers:
    """Convolutions of channels first, whose biases have axes for the map."""
    return Layers([
        eqx.nn.Conv2d(3, 8, 3, key=key), eqx.nn.Lambda(jax.nn.relu), eqx.nn.GroupNorm(2, 8, eps=1e-5),
        eqx.nn.Conv2d(8, 8, 3, stride=2, key=key), eqx.nn.Lambda(jax.nn.relu), eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Linear(128, 8, key=key),
    ])  # fmt: skip


def put_equinox(folder: Folder, name: str, network: Layers, value: np.ndarray) -> None:
    """Store a network of Equinox."""
    arrays, rest = eqx.partition(network, eqx.is_array)
    arrays = filled(arrays, name)
    network = eqx.combine(arrays, rest)
    save = {
        "model.eqx": lambda at: eqx.tree_serialise_leaves(at, network),
        "model.npz": lambda at: np.savez(at, **flat(arrays)),
    }
    outputs = [jax.vmap(network)(value)]
    folder.put(name, arrays=flat(arrays), inputs=[value], outputs=outputs, save=save)


RANDOM = seeded("jax inputs")
IMAGE, SQUARE = images(RANDOM, 3, 12, 12, 3), images(RANDOM, 3, 8)
PACKAGES = {"nnx": "flax", "haiku": "dm-haiku", "equinox": "equinox"}
NETWORKS = {
    "nnx/eye": lambda folder: put_nnx(folder, "eye", Eye(nnx.Rngs(0)), IMAGE),
    "nnx/reader": lambda folder: put_nnx(folder, "reader", Reader(nnx.Rngs(0)), tokens(RANDOM, 3, 6, size=16)),
    "haiku/eye": lambda folder: put_haiku(folder, "eye", hk_eye, IMAGE),
    "haiku/squares": lambda folder: put_haiku(folder, "squares", hk_squares, SQUARE),
    "equinox/eye": lambda folder: put_equinox(folder, "eye", eqx_eye(jax.random.key(0)), np.moveaxis(IMAGE, -1, 1)),
    "equinox/squares": lambda folder: put_equinox(folder, "squares", eqx_squares(jax.random.key(0)), SQUARE),
}


def main() -> None:
    """Build, fill, run and save each."""
    path, table = chosen(NETWORKS)
    for name, put in table.items():
        framework = name.partition("/")[0]
        put(Folder(path, framework, (PACKAGES[framework], "jax", "numpy")))


if __name__ == "__main__":
    sys.exit(main())
