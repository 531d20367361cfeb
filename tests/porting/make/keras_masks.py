"""A network whose branches hand masks on in every way that is computed, with its outputs as Keras gives them.

Run in an environment with Keras 3.15.1 and JAX 0.10.2, and in one with tf_keras 2.21 and TensorFlow 2.21:
    KERAS_BACKEND=jax python keras_masks.py keras ../files/masks/keras3.keras
    python keras_masks.py tf_keras ../files/masks/keras2.keras
The archive is packed again with compression, which Keras leaves out.
"""

import importlib
import sys
import zipfile
from pathlib import Path

import numpy as np

TIME, WORDS, WIDTH = 6, 9, 4
IDS = [[3, 1, 4, 2, 5, 8], [5, 2, 7, 0, 0, 0], [0, 0, 6, 0, 3, 0], [7, 0, 0, 0, 0, 0]]


def branches(keras, ids, values):
    """The outputs, by name."""
    layers = keras.layers
    made = {}
    words = layers.Embedding(WORDS, WIDTH, mask_zero=True, name="words")(ids)
    plain = layers.Embedding(WORDS, WIDTH, name="plain")(ids)
    masked = layers.Masking(-1.5, name="masking")(values)
    made["last"] = layers.LSTM(3)(words)
    made["steps"] = layers.LSTM(3, return_sequences=True)(words)
    made["zeros"] = layers.GRU(3, return_sequences=True, zero_output_for_mask=True)(words)
    made["backwards"] = layers.SimpleRNN(3, return_sequences=True, go_backwards=True)(masked)
    made["gru"] = layers.GRU(3)(layers.GRU(4, return_sequences=True, reset_after=False)(masked))
    made["both"] = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(words)
    made["both_last"] = layers.Bidirectional(layers.GRU(2), merge_mode="sum")(masked)
    made["stacked"] = layers.Bidirectional(layers.GRU(2))(
        layers.Bidirectional(layers.LSTM(2, return_sequences=True))(words)
    )
    made["mean"] = layers.GlobalAveragePooling1D()(words)
    made["mean_kept"] = layers.GlobalAveragePooling1D(keepdims=True)(layers.Dense(3, activation="relu")(masked))
    made["largest"] = layers.GlobalMaxPooling1D()(words)
    made["lost"] = layers.GlobalAveragePooling1D()(layers.Conv1D(3, 2, padding="same")(words))
    made["flat"] = layers.Dense(2)(layers.Flatten()(words))
    made["added"] = layers.GlobalAveragePooling1D()(layers.Add()([words, masked]))
    made["added_plain"] = layers.GlobalAveragePooling1D()(layers.Add()([words, plain]))
    made["joined_time"] = layers.LSTM(2)(
        layers.Concatenate(axis=1)([words, plain if keras.__name__ == "keras" else masked])
    )
    made["joined"] = layers.GlobalAveragePooling1D()(layers.Concatenate()([words, layers.Dense(2)(words)]))
    made["normed"] = layers.GRU(2)(layers.LayerNormalization()(layers.BatchNormalization()(layers.Dropout(0.1)(words))))
    made["each"] = layers.LSTM(2)(layers.TimeDistributed(layers.Dense(3))(words))
    attended = layers.MultiHeadAttention(2, 2, name="attention")(words, words)
    made["attended"] = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(layers.Add()([words, attended])))
    others = layers.Embedding(WORDS, WIDTH, mask_zero=True, name="others")(ids)
    made["crossed"] = layers.MultiHeadAttention(2, 3, name="crossed_attention")(plain, others)
    return made


def main():
    """Build, run and save."""
    name, path = sys.argv[1:]
    keras = importlib.import_module(name)
    keras.utils.set_random_seed(0)
    ids = keras.Input((TIME,), dtype="int32", name="ids")
    values = keras.Input((TIME, WIDTH), name="values")
    made = branches(keras, ids, values)
    model = keras.Model([ids, values], list(made.values()))
    random = np.random.default_rng(0)
    model.set_weights(
        [
            np.abs(one) if one.ndim == 1 and (one == 1).all() else random.normal(0, 0.5, one.shape).astype("float32")
            for one in model.get_weights()
        ]
    )
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in members.items():
            archive.writestr(zipfile.ZipInfo(one, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    given = random.normal(size=(len(IDS), TIME, WIDTH)).astype("float32")
    given[1, 4:] = given[2, :2] = given[2, 4] = given[3, 1:] = -1.5
    inputs = [np.array(IDS, dtype="int32"), given]
    outputs = {one: np.asarray(value) for one, value in zip(made, model(inputs), strict=True)}
    np.savez_compressed(
        Path(path).with_suffix(".npz"),
        ids=inputs[0],
        values=given,
        **{f"output_{one}": value for one, value in outputs.items()},
    )


if __name__ == "__main__":
    main()
