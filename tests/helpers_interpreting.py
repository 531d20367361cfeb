"""Single layers that Keras ran, as `tests/porting/make/keras_layers.py` stored them."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import Layer, NotInterpretedError
from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor

FILES = Path(__file__).parent / "porting" / "files" / "interpreting"


@cache
def stored(name):
    """The table of layers, and the arrays."""
    table = json.loads((FILES / f"{name}.json").read_text())
    flat, arrays, start = np.load(FILES / f"{name}.npy"), {}, 0
    for key, (shape, dtype) in table.pop("arrays").items():
        size = int(np.prod(shape))
        arrays[key] = torch.tensor(flat[start : start + size].view(dtype).reshape(shape))
        start += size
    assert start == len(flat)
    return table, arrays


def names(*kinds):
    """Every stored layer of these kinds."""
    found = [
        (file, name) for file in ("keras2", "keras3") for name, row in stored(file)[0].items() if row["kind"] in kinds
    ]
    assert {stored(file)[0][name]["kind"] for file, name in found} == set(kinds)
    return found


def layer(file, name, **config):
    """One of them, on its inputs, with some settings changed."""
    table, arrays = stored(file)
    row = table[name]
    inputs = tuple(arrays[place] for place in row["inputs"])
    weights = {leaf: (lambda leaf=leaf: arrays[f"{name}:{leaf}"]) for leaf in row["leaves"]}
    values = tuple(x.double() if x.is_floating_point() else x.long() for x in inputs)
    return Layer(name, row["kind"], {**row["config"], **config}, values, weights, int(file[-1]))


def assert_same(file, name):
    """That it gives what Keras gave."""
    expected = stored(file)[1][f"{name}:output"]
    found = apply(layer(file, name))
    assert found.dtype == torch.float64
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-5 * max(float(expected.abs().max()), 1.0)


def assert_refused(name, config, why):
    """That a layer of Keras 3 with these settings is not interpreted, and why."""
    with pytest.raises(NotInterpretedError) as caught:
        apply(layer("keras3", name, **config))
    assert str(caught.value).endswith(why)


def network(*layers, **weights):
    """A Keras network: each layer as (name, kind, settings, inputs); weights by `unit__leaf`, inputs last."""
    listed = tuple(SourceLayer(name, kind, {"name": name, "trainable": True, **config}, tuple(inputs))
                   for name, kind, config, inputs in layers)  # fmt: skip
    tensors = []
    for key, value in weights.items():
        unit, leaf = key.split("__")
        tensors.append(SourceTensor(key, tuple(value.shape), "float32", unit, leaf, lambda value=value: value))
    return Source("a test", "keras", tuple(tensors), "graph", listed)


def floats(*shape, seed=0):
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def alone(file, name):
    """A network of one stored layer, its inputs, and what Keras gave."""
    table, arrays = stored(file)
    row = table[name]
    inputs = [arrays[place] for place in row["inputs"]]
    start = "batch_shape" if file == "keras3" else "batch_input_shape"
    listed = [(f"in{at}", "InputLayer", {start: [None, *value.shape[1:]]}, ()) for at, value in enumerate(inputs)]
    weights = {f"layer__{leaf}": arrays[f"{name}:{leaf}"] for leaf in row["leaves"]}
    source = network(*listed, ("layer", row["kind"], row["config"], [one[0] for one in listed]), **weights)
    return source, inputs, arrays[f"{name}:output"]


def small_network(ending):
    """A convolution, a norm and a dense layer with an activation: `conv`, `norm`, `pool`, `out`."""
    return network(
        ("x", "InputLayer", {"batch_shape": [None, 6, 7, 2]}, ()),
        ("conv", "Conv2D", {"use_bias": False, "activation": "relu"}, ("x",)),
        ("norm", "BatchNormalization", {"epsilon": 0.5}, ("conv",)),
        ("pool", "GlobalAveragePooling2D", {}, ("norm",)),
        ("out", "Dense", {"use_bias": False, "activation": ending}, ("pool",)),
        conv__kernel=floats(3, 3, 2, 4), norm__gamma=floats(4, seed=1), norm__beta=floats(4, seed=2),
        norm__moving_mean=floats(4, seed=3), norm__moving_variance=floats(4, seed=4).square(),
        out__kernel=floats(4, 3, seed=5),
    )  # fmt: skip
