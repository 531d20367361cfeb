"""Networks saved by the legacy Keras of TensorFlow 2: `.h5`, `.weights.h5`, checkpoints of objects, SavedModel.

Run by `exams.porting.build` in the environment `tensorflow`: python from_tf_keras.py FOLDER [CASE ...]
"""

from __future__ import annotations

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tf_keras as keras
from golden import Folder, chosen, images, new_names, random_value, seeded, tokens
from keras_networks import NETWORKS, layer_kinds, renamed
from keras_other_networks import CLASSES, MASKED, ended

TRAINED = ("conv2d", "resnet", "embeddings", "lstm")  # a few steps of Adam, so that its slots are in the files, too
# Enough of the first are examined with Keras 3; TensorFlow has no convolution of channels first for a CPU.
LEFT_OUT = ("conv3d", "preprocessing", "separable", "channels_first", "channels_first_as_they_are")
OWN_CLASSES = ("subclassed",)


def values(network: keras.Model, name: str) -> None:
    """Give every variable of float kind a random value."""
    random = seeded("legacy " + name)
    for variable in network.variables:
        if variable.dtype.is_floating:
            variable.assign(random_value(random, variable.name.partition(":")[0], variable.shape))


def examples(network: keras.Model, name: str) -> list[np.ndarray]:
    """Random inputs, three samples each."""
    random = seeded("legacy inputs of " + name)
    if name in CLASSES:
        return [CLASSES[name][1](random)]
    found = [
        tokens(random, 3, *tensor.shape[1:], size=8)
        if tensor.dtype.is_integer
        else images(random, 3, *tensor.shape[1:])
        for tensor in network.inputs
    ]
    return [ended(value) for value in found] if name in MASKED else found


def main() -> None:
    """Build, fill, run and save each."""
    classes = {name: CLASSES[name][0] for name in OWN_CLASSES}
    path, table = chosen({name: build for name, build in NETWORKS.items() if name not in LEFT_OUT} | classes)
    folder = Folder(path, "tf_keras", ("tensorflow", "tf_keras", "h5py", "numpy"))
    for name, build in table.items():
        keras.backend.clear_session()
        network = build(keras)
        inputs = examples(network, name)
        inputs = inputs if len(inputs) > 1 else inputs[0]
        network(inputs)  # classes have weights only now
        values(network, name)
        if name in TRAINED:
            network.compile(keras.optimizers.Adam(1e-2), "mse")
            network.fit(inputs, np.ones(network(inputs).shape), epochs=3, verbose=0)
        save = {
            "legacy_weights.h5": network.save_weights,
            "checkpoint/weights.index": lambda at, network=network: network.save_weights(at[:-6], save_format="tf"),
            "saved_model": lambda at, network=network: network.save(at, save_format="tf"),
            "objects/ckpt.index": lambda at, network=network: tf.train.Checkpoint(model=network).write(at[:-6]),
        }
        if name not in OWN_CLASSES:  # they have no configuration
            other = renamed(network, new_names(seeded("names of " + name), layer_kinds(network)))
            save |= {"model.h5": network.save, "renamed.h5": other.save}
        folder.put(
            name,
            arrays={variable.name.partition(":")[0]: variable.numpy() for variable in network.variables},
            inputs=inputs if isinstance(inputs, list) else [inputs],
            outputs=[network(inputs, training=False)],
            save=save,
        )


if __name__ == "__main__":
    sys.exit(main())
