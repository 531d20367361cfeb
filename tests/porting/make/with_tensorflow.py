"""Write the TensorFlow files of `tests/porting/files/tensorflow`.

Needs tensorflow==2.21.0, tf_keras==2.21.0 and keras==3.15.1 (`pip install tensorflow tf_keras`).
Run: `python tests/porting/make/with_tensorflow.py` from the root of the repository.
Beside each file lies a `.npz` with the arrays as TensorFlow reads them.
"""

import os
import shutil
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
import tf_keras

OUT = Path(__file__).parents[1] / "files" / "tensorflow"


def expected(prefix, name):
    """What TensorFlow itself reads, by checkpoint key."""
    reader = tf.train.load_checkpoint(str(prefix))
    kept = [key for key in reader.get_variable_to_shape_map() if reader.get_variable_to_dtype_map()[key] != tf.string]
    kept = [key for key in kept if not key.startswith("optimizer/_variables") and ".OPTIMIZER_SLOT" not in key]
    arrays = {key: np.asarray(reader.get_tensor(key)) for key in kept}
    arrays = {key: a.view(np.uint16) if a.dtype == tf.bfloat16.as_numpy_dtype else a for key, a in arrays.items()}
    np.savez_compressed(OUT / f"{name}.npz", **arrays)


def network(package, seed=0):
    """A small network with two names of a kind, a nested model and layers without weights."""
    package.utils.set_random_seed(seed)
    layers = package.layers
    inner = package.Sequential([layers.Dense(3, name="squeeze"), layers.ReLU()], name="inner")
    return package.Sequential(
        [
            layers.Input((6, 6, 2)),
            layers.Conv2D(4, 3, name="stem"),
            layers.BatchNormalization(name="stem_bn"),
            layers.DepthwiseConv2D(2, name="depth"),
            layers.Flatten(),
            inner,
            layers.Dropout(0.5),
            layers.Dense(2, name="head"),
        ]
    )


def train(model, package, optimizer):
    rng = np.random.default_rng(0)
    model.compile(optimizer=optimizer, loss="mse")
    model.fit(rng.normal(size=(8, 6, 6, 2)), rng.normal(size=(8, 2)), verbose=0)


def objects():
    """Checkpoints that name variables by the path of objects that leads to them."""
    model = network(keras)
    train(model, keras, keras.optimizers.Adam())
    prefix = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(OUT / "keras3"))
    expected(prefix, "keras3")
    model = network(tf_keras)
    train(model, tf_keras, tf_keras.optimizers.legacy.Adam())
    model.save_weights(str(OUT / "tfkeras"), save_format="tf")
    expected(OUT / "tfkeras", "tfkeras")

    class Cell(tf.Module):
        def __init__(self):
            self.w = tf.Variable(tf.ones((2, 3)), name="w")
            self.b = tf.Variable(tf.range(3.0), name="b")

    class Net(tf.Module):
        def __init__(self):
            self.cells = [Cell() for _ in range(11)]

    prefix = tf.train.Checkpoint(net=Net()).write(str(OUT / "modules"))
    expected(prefix, "modules")


def recurrent():
    """Layers whose variables have scopes inside of them."""
    for name, package in (("recurrent2", tf_keras), ("recurrent3", keras)):
        package.utils.set_random_seed(0)
        layers = package.layers
        given = layers.Input((5, 4))
        x = layers.LSTM(3, return_sequences=True, name="rec")(given)
        x = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")(x)
        x = layers.MultiHeadAttention(2, 3, name="att")(x, x)
        model = package.Model(given, layers.Dense(2, name="query")(x))
        tf.train.Checkpoint(model=model).write(str(OUT / name))


def names():
    """Checkpoints of TensorFlow 1: slots, counters, moving averages, a variable in parts."""
    v1 = tf.compat.v1
    rng = np.random.default_rng(1)
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.get_or_create_global_step()
        x = v1.placeholder(tf.float32, (None, 5))
        with v1.variable_scope("fc1"):
            weights = v1.get_variable("weights", initializer=rng.normal(size=(5, 7)).astype("f4"), trainable=True)
            biases = v1.get_variable("biases", initializer=rng.normal(size=7).astype("f4"))
        with v1.variable_scope("table"):
            parts = v1.get_variable(
                "embeddings", (7, 4), partitioner=v1.fixed_size_partitioner(3), initializer=v1.ones_initializer()
            )
        mean = v1.get_variable(
            "fc1/BatchNorm/moving_mean", initializer=rng.normal(size=7).astype("f4"), trainable=False
        )
        hidden = tf.matmul(x, weights) + biases - mean
        loss = tf.reduce_mean(tf.matmul(hidden, tf.concat(list(parts), 0)) ** 2)
        train_op = v1.train.AdamOptimizer(0.01).minimize(loss, global_step=step)
        momentum = v1.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
        average = v1.train.ExponentialMovingAverage(0.9)
        with tf.control_dependencies([train_op, momentum]):
            update = average.apply([weights, biases])
        session.run(v1.global_variables_initializer())
        for _ in range(2):
            session.run(update, {x: rng.normal(size=(4, 5))})
        prefix = v1.train.Saver().save(session, str(OUT / "names.ckpt"), write_meta_graph=False)
        expected(prefix, "names")
    (OUT / "checkpoint").unlink()


def first_version():
    """A checkpoint of one file, as TensorFlow wrote them before 2017."""
    from tensorflow.core.protobuf import saver_pb2

    v1 = tf.compat.v1
    rng = np.random.default_rng(4)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("fc1/weights", initializer=rng.normal(size=(5, 7)).astype("f4"))
        v1.get_variable("fc1/biases", initializer=np.zeros(7, "f4"))
        parts = v1.fixed_size_partitioner(3)
        table = v1.get_variable(
            "table/embeddings", (7, 4), partitioner=parts, initializer=v1.random_normal_initializer(seed=1)
        )
        v1.get_variable("double", initializer=np.arange(3.0))
        v1.train.get_or_create_global_step()
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(write_version=saver_pb2.SaverDef.V1)
        saver.save(session, str(OUT / "first.ckpt"), write_meta_graph=False)
        reader = tf.train.load_checkpoint(str(OUT / "first.ckpt"))
        kept = [key for key in reader.get_variable_to_shape_map() if key != "table/embeddings"]  # it reads no parts
        arrays = {key: np.asarray(reader.get_tensor(key)) for key in kept}
        np.savez_compressed(OUT / "first.npz", **arrays, **{"table/embeddings": session.run(tf.concat(list(table), 0))})


def dtypes():
    """One array of each dtype, and shapes without elements."""
    base = np.arange(6).reshape(2, 3)
    arrays = {
        "half": tf.constant(base, tf.float16), "bfloat": tf.constant(base, tf.bfloat16),
        "double": tf.constant(base, tf.float64), "bool": tf.constant(base % 2 == 0), "int8": tf.constant(base, tf.int8),
        "uint16": tf.constant(base, tf.uint16), "int64": tf.constant(base, tf.int64), "scalar": tf.constant(2.5),
        "complex": tf.constant(base, tf.complex64), "empty": tf.zeros((0, 3)), "texts": tf.constant(["a", "bc" * 200]),
        "large": tf.constant(np.random.default_rng(2).normal(size=(40, 40)), tf.float16),
    }  # fmt: skip
    tf.raw_ops.SaveV2(
        prefix=str(OUT / "dtypes"),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )
    expected(OUT / "dtypes", "dtypes")


def shards():
    """Two shards, merged."""
    rng = np.random.default_rng(3)
    parts = []
    for k in range(2):
        parts.append(str(OUT / f"part{k}"))
        tensors = {f"layer{k}/kernel": rng.normal(size=(3, 2)), f"layer{k}/bias": rng.normal(size=2)}
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=list(tensors),
            shape_and_slices=["", ""],
            tensors=[tf.constant(v, tf.float32) for v in tensors.values()],
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(OUT / "shards"))
    expected(OUT / "shards", "shards")


def saved_models():
    """Folders with a graph, which is not run, and the variables that it reads."""
    model = network(tf_keras)
    model.save(str(OUT / "saved_tfkeras"), save_traces=False, include_optimizer=False)
    expected(OUT / "saved_tfkeras" / "variables" / "variables", "saved_tfkeras")
    model = network(keras)
    model.export(str(OUT / "saved_keras3"), verbose=False)
    expected(OUT / "saved_keras3" / "variables" / "variables", "saved_keras3")
    (OUT / "saved_keras3" / "saved_model.pb").unlink()  # 85 KB that nothing reads
    for folder in (OUT / "saved_tfkeras", OUT / "saved_keras3"):
        for name in ("assets", "fingerprint.pb"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def frozen():
    """A graph whose variables are constants."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = network(tf_keras)
    function = tf.function(model).get_concrete_function(tf.TensorSpec((1, 6, 6, 2)))
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    (OUT / "frozen.pb").write_bytes(graph.SerializeToString())
    constants = {n.name: tf.make_ndarray(n.attr["value"].tensor) for n in graph.node if n.op == "Const"}
    np.savez_compressed(OUT / "frozen.npz", **constants)


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for write in (names, first_version, objects, recurrent, dtypes, shards, saved_models, frozen):
        write()
    for path in sorted(OUT.rglob("*")):
        if path.name in ("checkpoint",):
            path.unlink()
