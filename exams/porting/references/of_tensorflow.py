"""Golden outputs of musicnn's VGG by TensorFlow: python of_tensorflow.py FOLDER GOLDEN .

Its graph cannot be imported by TensorFlow 2, so its steps are written out with TensorFlow's own operators and reader.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

folder, golden = sys.argv[1:]
read = tf.compat.v1.train.NewCheckpointReader(folder + "/").get_tensor


def norm(x: tf.Tensor, name: str) -> tf.Tensor:
    """A BatchNorm in evaluation."""
    names = ("moving_mean", "moving_variance", "beta", "gamma")
    return tf.nn.batch_normalization(x, *(read(f"{name}/{leaf}") for leaf in names), 1e-3)


inputs = np.random.default_rng(0).uniform(0, 5, (2, 187, 96, 1)).astype(np.float32)
x = norm(tf.constant(inputs), "batch_normalization")
pools = (((4, 1), 2), (2, 2), (2, 2), (2, 2), ((4, 4), 4))
for index, (size, stride) in enumerate(pools, start=1):
    x = tf.nn.relu(tf.nn.conv2d(x, read(f"{index}CNN/kernel"), 1, "SAME") + read(f"{index}CNN/bias"))
    x = tf.nn.max_pool2d(norm(x, f"batch_normalization_{index}"), size, stride, "VALID")
x = tf.reshape(x, (len(inputs), -1)) @ read("dense/kernel") + read("dense/bias")
np.savez(golden, input0=inputs, output0=tf.sigmoid(x).numpy())
