"""The networks with masks that Keras ran, as `tests/porting/make/keras_masks.py` stored them."""

from pathlib import Path

import numpy as np
import torch

FILES = Path(__file__).parent / "porting" / "files" / "masks"
VERSIONS = ["keras2", "keras3"]


def stored(version):
    """The path of the file, the inputs, and the outputs by name."""
    path = FILES / f"{version}.keras"
    with np.load(path.with_suffix(".npz")) as arrays:
        inputs = torch.tensor(arrays["ids"]).long(), torch.tensor(arrays["values"])
        outputs = {name[7:]: torch.tensor(arrays[name]) for name in arrays if name.startswith("output_")}
    return path, inputs, outputs
