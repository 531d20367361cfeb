"""Networks saved by Keras 3: `.keras`, `.weights.h5`, sharded weights, and the legacy `.h5` that Keras 3 still writes.

Run by `exams.porting.build` in the environment `keras`: python from_keras.py FOLDER [CASE ...]
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from golden import Folder, chosen, images, lying_names, new_names, random_value, seeded, tokens
from keras_networks import NETWORKS, layer_kinds, renamed
from keras_other_networks import CLASSES, MASKED, ended

SHARDED = ("resnet", "twelve_convs")  # their weights are saved in several files, too


def values(network: object, name: str) -> dict[str, np.ndarray]:
    """Random values for every variable of float kind, set; and all variables by path."""
    random = seeded(name)
    for variable in network.weights:
        if "float" in str(variable.dtype) and not variable.path.startswith("standardise"):
            variable.assign(random_value(random, variable.path, variable.shape))
    return {variable.path: np.asarray(variable.value) for variable in network.weights}


def examples(network: object, name: str) -> list[np.ndarray]:
    """Random inputs, three samples each."""
    random = seeded("inputs of " + name)
    if name in CLASSES:
        return [CLASSES[name][1](random)]
    found = []
    for tensor in network.inputs:
        shape = (3, *tensor.shape[1:])
        is_text = "int" in str(tensor.dtype)
        found.append(tokens(random, *shape, size=8) if is_text else images(random, *shape))
    return [ended(value) for value in found] if name in MASKED else found


def main() -> None:
    """Build, fill, run and save each."""
    path, table = chosen(NETWORKS | {name: build for name, (build, _) in CLASSES.items()})
    folder = Folder(path, "keras", ("keras", "jax", "h5py", "numpy"))
    for name, build in table.items():
        keras.utils.clear_session()
        network = build(keras)
        inputs = examples(network, name)
        if name in CLASSES:
            network(inputs[0])  # only now it has weights
        arrays = values(network, name)
        outputs = network(inputs if len(inputs) > 1 else inputs[0], training=False)
        save = {"model.keras": network.save, "model.weights.h5": network.save_weights, "model.h5": network.save}
        if name in CLASSES:  # the legacy format holds whole models of known layers only
            del save["model.h5"]
        elif name != "preprocessing":  # its weights are no part of its configuration
            kinds, random = layer_kinds(network), seeded("names of " + name)
            other = renamed(network, new_names(random, kinds))
            save |= {"renamed.keras": other.save, "renamed.weights.h5": other.save_weights}
            save["lying.keras"] = renamed(network, lying_names(random, kinds)).save
        if name in SHARDED:
            save["sharded.weights.json"] = lambda at, network=network: network.save_weights(at, max_shard_size=5e-6)
        folder.put(name, arrays=arrays, inputs=inputs, outputs=[outputs], save=save)


if __name__ == "__main__":
    sys.exit(main())
