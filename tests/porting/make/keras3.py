"""Small files as Keras 3 writes them, each with its arrays as Keras sees them (`.npz`).

Needs `keras==3.15.1 jax h5py` in an environment of its own:

    KERAS_BACKEND=jax python tests/porting/make/keras3.py tests/porting/files/keras3
"""

import sys
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
from keras import layers


def arrays(layer, prefix=""):
    """Every variable of a layer, by the name of its layer and its own."""
    if isinstance(layer, keras.Model):
        inner = f"{prefix}{layer.name}/" if prefix else "/"  # the outermost model has no part in names
        return {name: value for part in layer.layers for name, value in arrays(part, inner).items()}
    if isinstance(layer, layers.Bidirectional):
        halves = (("forward", layer.forward_layer), ("backward", layer.backward_layer))
        return {f"{prefix}{layer.name}/{half}/{v.name}": v for half, part in halves for v in part.weights}
    if isinstance(layer, layers.MultiHeadAttention):
        parts = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
        return {f"{prefix}{layer.name}/{part.name}/{v.name}": v for part in parts for v in part.weights}
    return {f"{prefix}{layer.name}/{v.name}": v for v in layer.weights}


def shuffle(model, seed):
    """Give every variable values of its own: zeros and ones hide what was exchanged."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        values = generator.uniform(0.5, 1.5, variable.shape)
        variable.assign(values.astype(variable.dtype if variable.dtype != "bfloat16" else ml_dtypes.bfloat16))


def images():
    """Convolutions of every kind, a model inside of a model, sums, constants, a shared layer."""
    keras.utils.clear_session()
    body = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="stem"),
            layers.BatchNormalization(scale=False, name="stem_bn"),
        ],
        name="body",
    )
    image = keras.Input((8, 8, 3), name="image")
    x = body(layers.Normalization(name="scale")(layers.Rescaling(1 / 255, name="unit")(image)))
    for number in range(3):
        x = layers.Conv2D(4, 3, padding="same", use_bias=number != 1, name=f"block_{number}")(x)
    y = layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)
    x = layers.add([layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1, name="depthwise")(x), y * 0.5])
    x = layers.PReLU(shared_axes=[1, 2], name="slopes")(layers.GroupNormalization(2, name="groups")(x))
    x = layers.Conv2DTranspose(3, 3, strides=2, name="up")(layers.LayerNormalization(center=False, name="norm")(x))
    shared = layers.Dense(3, name="shared")
    x = shared(layers.Dropout(0.2)(shared(layers.GlobalAveragePooling2D()(x))))
    return keras.Model(image, layers.Dense(2, activation="softmax", name="head")(x))


def texts():
    """Embedding, attention, recurrent layers in both directions."""
    keras.utils.clear_session()
    tokens = keras.Input((5,), name="tokens", dtype="int32")
    x = layers.Embedding(7, 4, name="words")(tokens)
    x = layers.RMSNormalization(name="rms")(layers.MultiHeadAttention(2, 3, name="attention")(x, x))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(x)
    x = layers.TimeDistributed(layers.Dense(4), name="each")(x)
    x = layers.SimpleRNN(3, return_sequences=True, name="simple")(layers.GRU(3, return_sequences=True, name="gru")(x))
    return keras.Model(tokens, layers.Dense(2, name="head")(layers.LSTM(2, use_bias=False, name="last")(x)))


def many():
    """More layers of a class than ten, whose paths do not sort as they run."""
    keras.utils.clear_session()
    return keras.Sequential([keras.Input((2,)), *(layers.Dense(2, name=f"step{number}") for number in range(12))])


@keras.saving.register_keras_serializable("here")
class Block(keras.Model):
    """A model of classes: layers in attributes and lists, a variable of its own."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.first = layers.Dense(3)
        self.steps = [layers.Dense(3, use_bias=False), layers.BatchNormalization()]
        self.norm = layers.BatchNormalization(center=False)
        self.scale = self.add_weight(shape=(3,), name="scale")

    def call(self, x):
        """Run the layers in order."""
        x = self.first(x)
        for step in self.steps:
            x = step(x)
        return self.norm(x) * self.scale


def expected(folder, name, model):
    """What is in a file, as Keras sees it; bfloat16, which NumPy lacks, as float32."""
    values = {k.lstrip("/"): np.asarray(v.value) for k, v in arrays(model).items()}
    values = {k: v.astype("float32") if v.dtype == ml_dtypes.bfloat16 else v for k, v in values.items()}
    np.savez_compressed(folder / f"{name}.npz", **values)


def main(folder):
    """Write all of them."""
    for name, model in (("images", images()), ("texts", texts())):
        shuffle(model, 1)
        model.save(folder / f"{name}.keras")
        expected(folder, name, model)
    model = many()
    shuffle(model, 1)
    model.save_weights(folder / "shards.weights.json", max_shard_size=1e-7)
    expected(folder, "shards", model)
    keras.utils.clear_session()
    block = Block()
    block(np.ones((1, 2), "float32"))
    shuffle(block, 1)
    block.save_weights(folder / "block.weights.h5")
    np.savez_compressed(folder / "block.npz", **{v.path: np.asarray(v.value) for v in block.weights})
    keras.utils.clear_session()
    keras.config.set_dtype_policy("bfloat16")
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="half")])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 3)), verbose=0)
    shuffle(model, 1)
    model.save_weights(folder / "half.weights.h5")
    expected(folder, "half", model)
    keras.config.set_dtype_policy("float32")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
