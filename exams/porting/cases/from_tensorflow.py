"""Networks saved by TensorFlow without Keras: checkpoints of names, as TF1 wrote them, and of `tf.Module` objects.

The checkpoints of names hold what training leaves in them: slots of optimizers, moving averages, the step.
Run by `exams.porting.build` in the environment `tensorflow`: python from_tensorflow.py FOLDER [CASE ...]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from golden import Folder, chosen, images, random_value, seeded, tokens

if TYPE_CHECKING:
    from collections.abc import Callable

v1 = tf.compat.v1
SLOTS = (
    "Adam",
    "Momentum",
    "beta1_power",
    "beta2_power",
    "adam_m",
    "adam_v",
    "ExponentialMovingAverage",
    "global_step",
)


def dense(x: Any, name: str, outs: int, leaves: tuple[str, str] = ("kernel", "bias")) -> Any:
    """A dense layer by variables."""
    with v1.variable_scope(name):
        kernel = v1.get_variable(leaves[0], (x.shape[-1], outs))
        return tf.tensordot(x, kernel, 1) + v1.get_variable(leaves[1], (outs,))


def norm(x: Any, name: str, epsilon: float = 1e-3) -> Any:
    """A BatchNorm in evaluation by variables."""
    with v1.variable_scope(name):
        beta, gamma = (v1.get_variable(leaf, (x.shape[-1],)) for leaf in ("beta", "gamma"))
        mean, variance = (
            v1.get_variable(leaf, (x.shape[-1],), trainable=False) for leaf in ("moving_mean", "moving_variance")
        )
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)


def conv(x: Any, name: str, outs: int, size: int, *, stride: int = 1, bias: str = "", leaf: str = "weights") -> Any:
    """A convolution with `SAME` by variables."""
    with v1.variable_scope(name):
        kernel = v1.get_variable(leaf, (size, size, x.shape[-1], outs))
        x = tf.nn.conv2d(x, kernel, stride, "SAME")
        return x + v1.get_variable(bias, (outs,)) if bias else x


def slim(image: Any) -> Any:
    """The names of slim, norms inside the scope of their convolutions."""
    with v1.variable_scope("tower"):
        x = tf.nn.relu(norm(conv(image, "conv1", 8, 3, stride=2), "conv1/BatchNorm"))
        x = tf.nn.relu(norm(conv(x, "conv2", 8, 3), "conv2/BatchNorm"))
        x = conv(x, "conv3", 8, 1, bias="biases")
        return dense(tf.reduce_mean(x, (1, 2)), "logits", 5, ("weights", "biases"))


def musicnn(image: Any) -> Any:
    """The names of musicnn: numbers first, and a norm before the first convolution."""
    x = norm(image, "batch_normalization")
    for index in range(1, 6):
        x = tf.nn.relu(conv(x, f"{index}CNN", 6, 3, bias="bias", leaf="kernel"))
        x = norm(x, f"batch_normalization_{index}")
        x = tf.nn.max_pool2d(x, 2, 2, "VALID") if index < 4 else x
    return dense(tf.reshape(x, (-1, 4 * 2 * 6)), "dense", 5)


def layer_norm(x: Any, name: str) -> Any:
    """A LayerNorm by variables."""
    with v1.variable_scope(name):
        beta, gamma = (v1.get_variable(leaf, (x.shape[-1],)) for leaf in ("beta", "gamma"))
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)


def bert_layer(x: Any) -> Any:
    """One layer of BERT, two heads of four."""

    def heads(y: Any) -> Any:
        return tf.transpose(tf.reshape(y, (-1, 6, 2, 4)), (0, 2, 1, 3))

    with v1.variable_scope("attention"):
        q, k, v = (heads(dense(x, f"self/{part}", 8)) for part in ("query", "key", "value"))
        y = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.5), v)
        y = dense(tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (-1, 6, 8)), "output/dense", 8)
        x = layer_norm(x + y, "output/LayerNorm")
    y = tf.nn.gelu(dense(x, "intermediate/dense", 8))
    return layer_norm(x + dense(y, "output/dense", 8), "output/LayerNorm")


def bert(words: Any, kinds: Any) -> Any:
    """The names of Google's BERT, twelve layers of one size."""
    with v1.variable_scope("bert"):
        with v1.variable_scope("embeddings"):
            x = tf.gather(v1.get_variable("word_embeddings", (32, 8)), words)
            x += tf.gather(v1.get_variable("token_type_embeddings", (8, 8)), kinds)
            x = layer_norm(x + v1.get_variable("position_embeddings", (6, 8)), "LayerNorm")
        for index in range(12):
            with v1.variable_scope(f"encoder/layer_{index}"):
                x = bert_layer(x)
        x = tf.tanh(dense(x[:, 0], "pooler/dense", 8))
    return dense(x, "classifier", 8)


def lstm(steps: Any) -> Any:
    """The LSTM cell of TF1: one kernel, gates i, j, f, o, and a bias of one that is not stored."""
    cell = v1.nn.rnn_cell.BasicLSTMCell(6)
    x = v1.nn.dynamic_rnn(cell, steps, dtype=tf.float32)[0]
    return dense(x[:, -1], "out", 3)


def gru(steps: Any) -> Any:
    """The GRU cell of TF1, with the reset gate before the product."""
    x = v1.nn.dynamic_rnn(v1.nn.rnn_cell.GRUCell(6), steps, dtype=tf.float32)[0]
    return dense(x, "out", 3)


NAMED = {  # the network, the shapes of its inputs (text by its length alone), and the prefix of its files
    "tf1_slim": (slim, ((16, 16, 3),), "model.ckpt-3"),
    "tf1_musicnn": (musicnn, ((32, 16, 1),), ""),
    "tf1_bert": (bert, (6, 6), "bert_model.ckpt"),
    "tf1_lstm": (lstm, ((7, 6),), "model.ckpt"),
    "tf1_gru": (gru, ((7, 5),), "model.ckpt"),
}


def trained(session: Any, outputs: Any, feed: dict[Any, np.ndarray], name: str) -> None:
    """Three steps, with the moments of Adam and moving averages of the variables."""
    step = v1.train.get_or_create_global_step()
    average = tf.train.ExponentialMovingAverage(0.5)
    train = v1.train.AdamOptimizer(1e-3).minimize(tf.reduce_mean(tf.square(outputs - 1.0)), step)
    with tf.control_dependencies([train]):
        train = average.apply(v1.trainable_variables())
    random = seeded("tensorflow " + name)
    session.run(v1.global_variables_initializer())
    for variable in v1.global_variables():
        if not any(slot in variable.op.name for slot in SLOTS):
            variable.load(random_value(random, variable.op.name, variable.shape), session)
    for _ in range(3):
        session.run(train, feed)


def save_named(session: Any, at: str) -> None:
    """A checkpoint of names; TensorFlow refuses an empty prefix, so its files are renamed."""
    path = Path(at).parent / "none" if at.endswith("/.index") else Path(at.removesuffix(".index"))
    v1.train.Saver().save(session, str(path), write_meta_graph=False)
    if at.endswith("/.index"):
        for file in path.parent.glob("none.*"):
            file.rename(file.with_name(file.name.removeprefix("none")))


def build_named(folder: Folder, name: str, build: Callable[..., Any], shapes: tuple[Any, ...], prefix: str) -> None:
    """Build, train, run and save a network in a graph of its own."""
    random = seeded("tensorflow inputs of " + name)
    inputs = [
        images(random, 3, *shape) if isinstance(shape, tuple) else tokens(random, 3, shape, size=8) for shape in shapes
    ]
    with tf.Graph().as_default(), v1.Session() as session:
        places = [v1.placeholder(value.dtype, (None, *value.shape[1:])) for value in inputs]
        outputs, feed = build(*places), dict(zip(places, inputs, strict=True))
        trained(session, outputs, feed, name)
        variables = [each for each in v1.global_variables() if not any(slot in each.op.name for slot in SLOTS)]
        folder.put(
            name,
            arrays={each.op.name: session.run(each) for each in variables},
            inputs=inputs,
            outputs=[session.run(outputs, feed)],
            save={f"named/{prefix}.index": lambda at: save_named(session, at)},
        )


class Tower(tf.Module):
    """Layers in lists, without names: convolutions, then a dense layer on flattened maps."""

    def __init__(self) -> None:
        random = seeded("tensorflow objects")
        shapes = {"eyes": ((3, 3, 2, 4), (3, 3, 4, 4)), "mind": ((64, 8), (8, 8))}
        for name, kinds in shapes.items():
            layers = [
                {"w": tf.Variable(random_value(random, "w", s)), "b": tf.Variable(random_value(random, "b", s[-1:]))}
                for s in kinds
            ]
            setattr(self, name, layers)

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 2))])
    def __call__(self, x: Any) -> Any:
        for stride, eye in zip((1, 2), self.eyes):  # noqa: B905 (AutoGraph traces `zip` and knows no `strict`)
            x = tf.nn.relu(tf.nn.conv2d(x, eye["w"], stride, "SAME") + eye["b"])
        x = tf.tanh(tf.reshape(x, (-1, 64)) @ self.mind[0]["w"] + self.mind[0]["b"])
        return x @ self.mind[1]["w"] + self.mind[1]["b"]


def build_objects(folder: Folder) -> None:
    """A `tf.Module`, as a checkpoint and as a SavedModel."""
    tower, inputs = Tower(), images(seeded("inputs of objects"), 3, 8, 8, 2)
    arrays = {
        f"{name}/{index}/{leaf}": value.numpy()
        for name in ("eyes", "mind")
        for index, layer in enumerate(getattr(tower, name))
        for leaf, value in layer.items()
    }
    folder.put(
        "tf_module",
        arrays=arrays,
        inputs=[inputs],
        outputs=[tower(inputs)],
        save={
            "objects/ckpt.index": lambda at: tf.train.Checkpoint(tower=tower).write(at.removesuffix(".index")),
            "saved_model": lambda at: tf.saved_model.save(tower, at),
        },
    )


def main() -> None:
    """Build, run and save each."""
    path, table = chosen({**NAMED, "tf_module": None})
    folder = Folder(path, "tensorflow", ("tensorflow", "numpy"))
    for name, case in table.items():
        if case is None:
            build_objects(folder)
        else:
            build_named(folder, name, *case)


if __name__ == "__main__":
    sys.exit(main())
