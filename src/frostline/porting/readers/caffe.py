"""Caffe's `.caffemodel`: layers with their blobs; the architecture is read from a `.prototxt` beside it.

References:
    BVLC/caffe, `src/caffe/proto/caffe.proto`; `src/caffe/layers/batch_norm_layer.cpp` (the first two blobs
    are divided by the third one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frostline.core.errors import PortError
from frostline.porting.readers.caffe_layers import KINDS_V1, described, settings
from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from frostline.porting.readers.protobuf import Span, Wire, beginning
from frostline.porting.readers.prototxt import parse
from frostline.porting.readers.tensor_data import check_names, num_bytes, tensor_of
from frostline.porting.readers.weight_file import neighbour

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_V1, _V2 = 2, 100  # the field numbers of layers in a NetParameter
_WEIGHTS = ("weight", "bias")
_LEAVES = {
    "Convolution": _WEIGHTS, "Deconvolution": _WEIGHTS, "InnerProduct": _WEIGHTS, "Embed": _WEIGHTS,
    "BatchNorm": ("mean", "variance", "factor"), "Scale": ("gamma", "beta"), "Bias": ("bias",), "PReLU": ("slope",),
    "LSTM": ("W_xc", "b_c", "W_hc"), "RNN": ("W_xh", "b_h", "W_hh", "W_ho", "b_o"), "Normalize": ("scale",),
}  # fmt: skip
_KNOWN = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 100})


@dataclass(frozen=True)
class _Layer:
    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    config: dict[str, Any]
    blobs: tuple[Message, ...]


def claims(file: WeightFile) -> bool:
    """Whether the file begins with the fields of a NetParameter: a name, and layers with names and kinds."""
    first = beginning(Wire(file).span())
    layer = next(((number, value) for number, value in first if number in (_V1, _V2)), None)
    if layer is None or not {number for number, _ in first} <= _KNOWN or not _is_name(dict(first).get(1)):
        return False
    inner = dict(beginning(layer[1], 8)) if isinstance(layer[1], Span) else {}
    if layer[0] == _V2:
        return isinstance(inner.get(1), Span) and isinstance(inner.get(2), Span)
    return isinstance(inner.get(4), Span) or isinstance(inner.get(1), Span)


def _is_name(value: int | Span | None) -> bool:
    if value is None:
        return True
    if isinstance(value, int) or value.size > 1_000 or value.offset + value.size > value.wire.size:
        return False
    return value.bytes().decode(errors="replace").isprintable()


def read(file: WeightFile) -> Source:
    """Read the layers of a network.

    Args:
        file: The `.caffemodel`. The architecture is read from a `.prototxt` beside it (with the same name, or
            `deploy.prototxt`) if that has the same layers, otherwise from the file itself.

    Raises:
        PortError: If the file is damaged, or has the oldest version of the format.
    """
    network = Wire(file).message()
    layers = [_layer_v2(message) for message in network.messages(_V2)]
    layers += [_layer_v1(file, message) for message in network.messages(_V1)]
    tensors = tuple(tensor for layer in layers for tensor in _tensors(file, layer))
    check_names(file, [tensor.name for tensor in tensors])
    units = {tensor.unit for tensor in tensors}
    architecture, note = _beside(file, units)
    if not architecture:
        architecture = described(
            [(layer.name, layer.kind, layer.bottoms, layer.tops, layer.config) for layer in layers]
        )
    notes = [note]
    if any(layer.kind == "BatchNorm" for layer in layers):
        notes.append("Means and variances are multiplied by the reciprocal of their factor, in float32, as Caffe does.")
    return Source("Caffe model", "caffe", tensors, order="graph", layers=architecture, notes=tuple(notes))


def _layer_v2(message: Message) -> _Layer:
    return _Layer(
        message.text(1), message.text(2), tuple(message.texts(3)), tuple(message.texts(4)), settings(message, 2),
        tuple(message.messages(7)),
    )  # fmt: skip


def _layer_v1(file: WeightFile, message: Message) -> _Layer:
    if message.has(1):
        raise file.refused(
            "Networks of Caffe's oldest version (V0) are not supported.", "layers of the type V0LayerParameter",
            "upgrade the file with Caffe's tool upgrade_net_proto_binary.",
        )  # fmt: skip
    kind = KINDS_V1.get(message.integer(5), f"type {message.integer(5)}")
    return _Layer(
        message.text(4), kind, tuple(message.texts(2)), tuple(message.texts(3)), settings(message, 1),
        tuple(message.messages(6)),
    )  # fmt: skip


def _tensors(file: WeightFile, layer: _Layer) -> list[SourceTensor]:
    leaves = _LEAVES.get(layer.kind, ())
    if layer.kind == "BatchNorm" and len(layer.blobs) != 3:
        raise file.damaged(f"the BatchNorm {layer.name!r} has {len(layer.blobs)} blobs, not 3")
    found: list[SourceTensor] = []
    for place, blob in enumerate(layer.blobs):
        leaf = leaves[place] if place < len(leaves) else f"blob{place}"
        stored, dtype = _stored(file, f"{layer.name}/{place}", blob)
        if leaf == "factor":
            continue
        shape = _shape(stored, layer.kind, leaf)
        load = _Blob(file, blob, shape, dtype, layer.blobs[2] if layer.kind == "BatchNorm" else None)
        found.append(SourceTensor(f"{layer.name}/{place}", shape, dtype, layer.name, leaf, load))
    return found


def _stored(file: WeightFile, name: str, blob: Message) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a blob; its number of values must fit its shape."""
    dtype, field = ("float64", 8) if blob.has(8) else ("float32", 5)
    shape_message = blob.message(7)
    if shape_message is not None:
        shape = tuple(shape_message.integers(1))
    elif any(blob.has(number) for number in (1, 2, 3, 4)):
        shape = tuple(blob.integer(number) for number in (1, 2, 3, 4))  # the older form of a shape: four fields
    else:
        raise file.damaged(f"the blob {name!r} without a shape")
    expected = num_bytes(file, shape, dtype)
    if blob.num_bytes(field, "<f8" if dtype == "float64" else "<f4") != expected or (blob.has(5) and blob.has(8)):
        raise file.damaged(f"the blob {name!r} of shape {shape} does not contain {math.prod(shape)} values")
    return shape, dtype


def _shape(shape: tuple[int, ...], kind: str, leaf: str) -> tuple[int, ...]:
    """The shape without the leading axes of size 1 that older versions of Caffe add."""
    if kind in ("InnerProduct", "Embed") and leaf == "weight" and shape[:-2] == (1,) * (len(shape) - 2):
        return shape[-2:]
    is_vector = leaf in ("bias", "mean", "variance", "gamma", "beta", "slope", "scale")
    return (math.prod(shape),) if is_vector and math.prod(shape) == max(shape, default=1) else shape


@dataclass(frozen=True)
class _Blob:
    """Loads one blob; a statistic of a BatchNorm is multiplied by the reciprocal of its factor."""

    file: WeightFile
    blob: Message
    shape: tuple[int, ...]
    dtype: str
    factor: Message | None

    def __call__(self) -> Tensor:
        values = tensor_of(self.file, self._raw(self.blob), self.shape, self.dtype)
        if self.factor is None:
            return values
        raw = self._raw(self.factor)
        (factor,) = np.frombuffer(raw, dtype="<f8" if self.factor.has(8) else "<f4")[:1] if raw else [np.float32(0)]
        with np.errstate(
            over="ignore", divide="ignore", invalid="ignore"
        ):  # the port refuses values that are not finite
            reciprocal = np.float32(1) / np.float32(factor) if factor else np.float32(0)
        return values * torch.tensor(reciprocal)

    def _raw(self, blob: Message) -> bytes:
        return blob.fixed(8, "<f8") if blob.has(8) else blob.fixed(5, "<f4")


def _beside(file: WeightFile, units: set[str]) -> tuple[tuple[SourceLayer, ...], str]:
    """The architecture in a `.prototxt` beside the file, if that describes this network; and a note."""
    stem = file.path.name.rpartition(".")[0] or file.path.name
    for name in (f"{stem}.prototxt", f"{stem}_deploy.prototxt", f"{stem}-deploy.prototxt", "deploy.prototxt"):
        if not (file.path.parent / name).exists():
            continue
        try:
            with neighbour(file, name) as other:
                network = parse(other)
        except PortError as error:
            return (), f"{name} beside the file was not read: {error.received}."
        layers = described(_texts(network))
        if units <= {layer.name for layer in layers}:
            return layers, f"The architecture was read from {name} beside the file."
        return (), f"{name} beside the file describes another network and was not used."
    return (
        (),
        "The architecture was read from the file itself, with its training layers; there is no .prototxt beside it.",
    )


def _texts(network: dict[str, list[Any]]) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...], dict[str, Any]]]:
    """The layers in a text file, without those that are used in training only."""
    found: list[tuple[str, str, tuple[str, ...], tuple[str, ...], dict[str, Any]]] = []
    sizes = [size for shape in network.get("input_shape", []) for size in shape.get("dim", [])]
    for place, name in enumerate(network.get("input", [])):
        dims = (sizes or network.get("input_dim", []))[4 * place : 4 * place + 4]
        found.append((str(name), "Input", (), (str(name),), {"input_param": {"shape": {"dim": dims}}}))
    for layer in (*network.get("layer", []), *network.get("layers", [])):
        if not isinstance(layer, dict) or any("TRAIN" in str(rule) for rule in layer.get("include", [])):
            continue
        name, kind = (str(layer.get(field, [""])[0]) for field in ("name", "type"))
        bottoms, tops = (tuple(str(value) for value in layer.get(field, [])) for field in ("bottom", "top"))
        config = {field: _flat(values) for field, values in layer.items() if field.endswith("_param")}
        found.append((name, KINDS_V1.get(kind, kind), bottoms, tops, config))
    return found


def _flat(values: list[Any]) -> Any:
    """One value for a field that occurs once, a list for one that occurs several times."""
    plain = [
        {name: _flat(inner) for name, inner in value.items()} if isinstance(value, dict) else value for value in values
    ]
    return plain[0] if len(plain) == 1 else plain
