"""Networks saved by Flax: msgpack (bare, and a training state with its optimizer), Orbax, and `.npz` as big_vision has.

Run by `exams.porting.build` in the environment `flax`: python from_flax.py FOLDER [CASE ...]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import serialization, traverse_util
from flax.training import train_state
from flax_networks import NETWORKS
from flax_other_networks import NETWORKS as OTHER_NETWORKS
from golden import Folder, chosen, images, new_names, random_value, seeded, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

Tree = Any


def filled(variables: Tree, name: str) -> Tree:
    """Random values in place of the initial ones; each layer of a scan has its own."""
    random = seeded("flax " + name)

    def value(path: tuple[Any, ...], old: Any) -> np.ndarray:
        key = "/".join(part.key for part in path)
        if "layers/" in key:
            return np.stack([random_value(random, key, part.shape) for part in old])
        return random_value(random, key, old.shape)

    return jax.tree_util.tree_map_with_path(value, variables)


def write(at: str, content: bytes) -> None:
    """Write bytes."""
    Path(at).write_bytes(content)


def training(network: Any, variables: Tree) -> bytes:
    """A training state with the moments of Adam, as the usual loops keep it."""
    state = train_state.TrainState.create(apply_fn=network.apply, params=variables["params"], tx=optax.adam(1e-3))
    state = state.apply_gradients(grads=jax.tree_util.tree_map(np.zeros_like, variables["params"]))
    return serialization.to_bytes(state)


def orbax(variables: Tree, at: str) -> None:
    """A checkpoint in a folder."""
    shutil.rmtree(at, ignore_errors=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(at).absolute(), variables)


def renamed(variables: Tree, name: str) -> Tree:
    """The layers under random names; the parts of a cell or of attention keep theirs, which Flax fixes."""
    fixed = {"query", "key", "value", "out", *(side + gate for side in "ih" for gate in "ifgorzn")}
    flat = traverse_util.flatten_dict(variables)
    found = sorted({part for path in flat for part in path[1:-1]} - fixed)
    names = new_names(seeded("names of " + name), found)
    moved = {tuple(names.get(part, part) for part in path[:-1]) + path[-1:]: value for path, value in flat.items()}
    return traverse_util.unflatten_dict(dict(sorted(moved.items())))


def savers(name: str, network: Any, variables: Tree, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Every form in which the network is saved."""
    forms = {
        "model.msgpack": lambda at: write(at, serialization.to_bytes(variables)),
        "orbax": lambda at: orbax(variables, at),
        "renamed.msgpack": lambda at: write(at, serialization.to_bytes(renamed(variables, name))),
        "model.npz": lambda at: np.savez(at, **arrays),
    }
    if name == "hf_bert":  # saves the parameters alone
        forms["flax_model.msgpack"] = lambda at: write(at, serialization.to_bytes(variables["params"]))
    if "batch_stats" not in variables:
        forms["training.msgpack"] = lambda at: write(at, training(network, variables))
    return forms


def main() -> None:
    """Build, fill, run and save each."""
    path, table = chosen(NETWORKS | OTHER_NETWORKS)
    folder = Folder(path, "flax", ("flax", "jax", "orbax-checkpoint", "numpy"))
    for name, (kind, shapes) in table.items():
        network, random = kind(), seeded("flax inputs of " + name)
        inputs = [
            images(random, 3, *shape) if isinstance(shape, tuple) else tokens(random, 3, shape, size=8)
            for shape in shapes
        ]
        variables = filled(network.init(jax.random.key(0), *inputs), name)
        arrays = traverse_util.flatten_dict(variables, sep="/")
        folder.put(
            name,
            arrays=arrays,
            inputs=inputs,
            outputs=[network.apply(variables, *inputs)],
            save=savers(name, network, variables, arrays),
        )


if __name__ == "__main__":
    sys.exit(main())
