"""scikit-learn's multilayer perceptrons in skops files: a schema in JSON and arrays, read without skops.

Only weights, biases and activations are read, which a forward pass needs. A pickle (`.pkl`, `.joblib`) of a model is
refused by the reader of pickles.
"""

from __future__ import annotations

import json
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from frostline.porting.readers import npz, strict_json
from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from frostline.porting.readers.zip_archive import SIGNATURE, Archive

if TYPE_CHECKING:
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_SCHEMA = "schema.json"
_KINDS = ("MLPClassifier", "MLPRegressor")
_MODULES = ("sklearn.neural_network._multilayer_perceptron", "sklearn.neural_network")
_ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "softmax", "exp")
_MAX_LAYERS = 10_000


def claims(file: WeightFile) -> bool:
    """Whether the file is a zip archive with a schema of skops."""
    return file.start(4) == SIGNATURE and _SCHEMA in Archive(file).members


def read(file: WeightFile) -> Source:
    """Weights and biases of each layer.

    Args:
        file: A file of `skops.io.dump` with one fitted `MLPClassifier` or `MLPRegressor`.

    Raises:
        PortError: If the file contains another kind of model, or is damaged.
    """
    archive = Archive(file)
    root = strict_json.parse(file, archive.read(_SCHEMA))
    kind = root.get("__class__") if isinstance(root, dict) else None
    if not isinstance(root, dict) or kind not in _KINDS or root.get("__module__") not in _MODULES:
        raise file.refused(
            "Only multilayer perceptrons are read from skops files, no other models.",
            f"a {root.get('__module__')}.{kind}"[:200] if isinstance(root, dict) else "a schema without a class",
            "where the file was made, save the MLPClassifier or MLPRegressor alone; of a pipeline, the last step.",
        )  # fmt: skip
    content = _inside(file, _inside(file, root, "content"), "content")
    weights, biases = (_arrays(file, archive, content, name) for name in ("coefs_", "intercepts_"))
    sizes = [one.shape for one in weights]
    if (
        not weights
        or any(len(shape) != 2 for shape in sizes)
        or [one.shape for one in biases] != [(n,) for _, n in sizes]
    ):
        raise file.damaged("different numbers of weights and biases")
    if any(before[1] != after[0] for before, after in pairwise(sizes)):
        raise file.damaged("layers whose sizes do not match")
    hidden, last = (_activation(file, content, name) for name in ("activation", "out_activation_"))
    layers: list[SourceLayer] = []
    tensors: list[SourceTensor] = []
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        unit = f"layers/{index}"
        tensors += [
            SourceTensor(one.name, one.shape, one.dtype, unit, leaf, one.load)
            for one, leaf in ((weight, "coefs"), (bias, "intercepts"))
        ]
        config = {"units": sizes[index][1], "activation": last if index == len(weights) - 1 else hidden}
        before = (f"layers/{index - 1}",) if index else ()
        layers.append(SourceLayer(unit, "Dense", MappingProxyType(config), before))
    return Source(f"scikit-learn {kind} (skops)", "sklearn", tuple(tensors), "graph", tuple(layers))


def _inside(file: WeightFile, node: Any, name: str) -> dict[str, Any]:
    found = node.get(name) if isinstance(node, dict) else None
    if not isinstance(found, dict):
        raise file.damaged(f"a schema without {name!r}")
    return cast("dict[str, Any]", found)


def _arrays(file: WeightFile, archive: Archive, content: dict[str, Any], name: str) -> list[SourceTensor]:
    """The arrays of a list; each is a member of the archive."""
    listed = _inside(file, content, name).get("content")
    if not isinstance(listed, list) or len(cast("list[Any]", listed)) > _MAX_LAYERS:
        raise file.damaged(f"a schema in which {name!r} is not a list")
    found: list[SourceTensor] = []
    for index, node in enumerate(cast("list[Any]", listed)):
        if not isinstance(node, dict) or (node.get("__class__"), node.get("__module__")) != ("ndarray", "numpy"):
            raise file.damaged(f"{name!r} with an element that is not an array")
        member = node.get("file")
        if not isinstance(member, str) or node.get("type") != "numpy":
            raise file.damaged(f"{name!r} with an array of Python objects")
        found.append(npz.array_of(file, archive, member, f"{name}.{index}"))
    return found


def _activation(file: WeightFile, content: dict[str, Any], name: str) -> str:
    stated = _inside(file, content, name).get("content")
    for activation in _ACTIVATIONS:
        if stated == json.dumps(activation):
            return activation
    raise file.damaged(f"the activation {stated!r}"[:200])
