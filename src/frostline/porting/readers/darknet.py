"""Darknet's `.weights`: a header and floats without names; the order of the layers determines the tensors.

The order is that of the `.cfg` beside the file, or of the convolutions that the caller passes to `divided`.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from frostline.porting.readers.tensor_data import tensor_of
from frostline.porting.readers.weight_file import neighbour

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_HEAD = struct.Struct("<3i")
_MAX_CFG_BYTES, _MAX_SECTIONS = 1 << 20, 10_000
_SECTION = re.compile(r"\[([a-z_0-9-]+)\]")
_OTHERS = ("connected", "rnn", "gru", "lstm", "crnn", "conv_lstm", "local", "batchnorm", "deconvolutional",
           "implicit", "implicit_add", "implicit_mul")  # fmt: skip
_FROM = ("shortcut", "scale_channels", "sam")


@dataclass(frozen=True)
class Layer:
    """One convolution.

    Attributes:
        name: The name of its unit.
        shape: The shape of its weight: filters, channels of one group, height, width.
        has_batch_norm: Whether the three other vectors of a BatchNorm follow its bias.
    """

    name: str
    shape: tuple[int, ...]
    has_batch_norm: bool


def claims(file: WeightFile) -> bool:
    """Whether the file begins with a version of Darknet (0.1.0 to 0.2.5), followed by a whole number of floats."""
    start = file.start(_HEAD.size)
    if len(start) < _HEAD.size:
        return False
    major, minor, revision = _HEAD.unpack(start)
    begin = _begin(major, minor)
    return major == 0 and minor in (1, 2) and 0 <= revision <= 5 and file.size > begin and (file.size - begin) % 4 == 0


def read(file: WeightFile) -> Source:
    """The tensors, named by the index of their layer in the `.cfg`; without a `.cfg` all floats as one tensor.

    Args:
        file: The file of weights; `NAME.cfg` is searched beside `NAME.weights`.

    Raises:
        PortError: If the number of floats is not that of the network, or the network has unsupported layers.
    """
    begin = _begin(*_HEAD.unpack(file.read_at(0, _HEAD.size))[:2])
    count = (file.size - begin) // 4
    name = f"{file.path.name.removesuffix('.weights')}.cfg"
    if not (file.path.parent / name).is_file():
        whole = SourceTensor("floats", (count,), "float32", "", "", lambda: _floats(file, begin, (count,)))
        return Source("Darknet weights", "darknet", (whole,), notes=(
            f"There is no {name} beside the file: its {count} floats have no names, and are divided among the "
            "convolutions of the module in their order.",
        ))  # fmt: skip
    with neighbour(file, name) as cfg:
        layers, described = _network(cfg)
    return Source("Darknet weights", "darknet", divided(file, layers), "graph", described)


def divided(file: WeightFile, layers: Sequence[Layer]) -> tuple[SourceTensor, ...]:
    """The floats of the file as tensors of `layers`, named by the layer.

    Args:
        file: The file of weights.
        layers: The convolutions, in the order in which Darknet writes them.

    Raises:
        PortError: If the file contains more or fewer floats than the layers have.
    """
    at = begin = _begin(*_HEAD.unpack(file.read_at(0, _HEAD.size))[:2])
    found: list[SourceTensor] = []
    for layer in layers:
        for unit, leaf, shape in _leaves(layer):
            found.append(_tensor(file, unit, leaf, at, shape))
            at += 4 * math.prod(shape)
    if at != file.size:
        raise file.refused(
            "The file does not contain the weights of this network.",
            f"{(file.size - begin) // 4} floats; the network has {(at - begin) // 4}",
            "use the network with which the file was trained: the numbers of floats must be equal.",
        )  # fmt: skip
    return tuple(found)


def _begin(major: int, minor: int) -> int:
    """The offset of the floats, after the counter of training images, which has 64 bits since version 0.2."""
    return _HEAD.size + (8 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 4)


def _leaves(layer: Layer) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Unit, leaf and shape of each tensor of a layer, in Darknet's order; its BatchNorm is a separate unit."""
    filters, norm = (layer.shape[0],), f"{layer.name}/bn"
    if layer.has_batch_norm:
        yield from ((norm, leaf, filters) for leaf in ("biases", "scales", "rolling_mean", "rolling_variance"))
    else:
        yield layer.name, "biases", filters
    yield layer.name, "weights", layer.shape


def _tensor(file: WeightFile, unit: str, leaf: str, at: int, shape: tuple[int, ...]) -> SourceTensor:
    return SourceTensor(f"{unit}.{leaf}", shape, "float32", unit, leaf, lambda: _floats(file, at, shape))


def _floats(file: WeightFile, at: int, shape: tuple[int, ...]) -> Tensor:
    return tensor_of(file, file.array_at(at, 4 * math.prod(shape)), shape, "float32")


def _network(cfg: WeightFile) -> tuple[list[Layer], tuple[SourceLayer, ...]]:
    """The convolutions of a `.cfg`, and all of its layers."""
    sections = _sections(cfg)
    if not sections or sections[0][0] not in ("net", "network"):
        raise cfg.damaged("a .cfg that does not begin with [net]")
    channels = [_number(cfg, sections[0][1], "channels", 3)]
    layers: list[Layer] = []
    described: list[SourceLayer] = []
    outputs: list[str] = []
    for index, (kind, fields) in enumerate(sections[1:]):
        name = f"{index}_{kind}"
        taken, width = _inputs(cfg, index, kind, fields, channels[1:])
        given = channels[-1] if kind != "route" else width
        if kind == "convolutional":
            filters, size = _number(cfg, fields, "filters", 1), _number(cfg, fields, "size", 1)
            groups = _number(cfg, fields, "groups", 1)
            if groups < 1 or given % groups:
                raise cfg.damaged(f"layer {index} has {given} channels in {groups} groups")
            layers.append(
                Layer(name, (filters, given // groups, size, size), bool(_number(cfg, fields, "batch_normalize", 0)))
            )
            given = filters
        elif kind in _OTHERS:
            raise cfg.refused(
                "The network has Darknet layers that are not supported.", f"[{kind}] is layer {index}",
                "port from a file of the network in another format; only convolutions are supported.",
            )  # fmt: skip
        elif kind == "reorg":
            given *= _number(cfg, fields, "stride", 1) ** 2
        channels.append(given)
        described.append(SourceLayer(name, kind, MappingProxyType(dict(fields)), tuple(outputs[at] for at in taken)))
        outputs.append(name)
        if kind == "convolutional" and layers[-1].has_batch_norm:
            outputs[-1] = f"{name}/bn"
            described.append(SourceLayer(outputs[-1], "batchnorm", inputs=(name,)))
    return layers, tuple(described)


def _inputs(
    cfg: WeightFile, index: int, kind: str, fields: Mapping[str, str], channels: Sequence[int]
) -> tuple[list[int], int]:
    """The indices of the layers whose outputs a layer takes, and the sum of their channels."""
    before = [index - 1] if index else []
    stated = fields.get("layers", "") if kind == "route" else fields.get("from", "") if kind in _FROM else ""
    try:
        named = [int(part) for part in stated.split(",") if part.strip()]
    except ValueError as error:
        raise cfg.damaged(f"layer {index} refers to the layers {stated!r}"[:200]) from error
    named = [index + one if one < 0 else one for one in named]
    taken = named if kind == "route" else [*before, *named]
    if any(not 0 <= one < index for one in taken):
        raise cfg.damaged(f"layer {index} refers to the layers {stated!r}"[:200])
    groups = _number(cfg, fields, "groups", 1) if kind == "route" else 1
    return taken, sum(channels[one] // max(1, groups) for one in taken)


def _sections(cfg: WeightFile) -> list[tuple[str, dict[str, str]]]:
    """The sections of a `.cfg`: names and settings, in the order of the file."""
    if cfg.size > _MAX_CFG_BYTES:
        raise cfg.damaged(f"a .cfg of {cfg.size} bytes; the limit is {_MAX_CFG_BYTES}")
    found: list[tuple[str, dict[str, str]]] = []
    for line in cfg.read_at(0, cfg.size).decode(errors="replace").splitlines():
        text = line.split("#")[0].strip()
        if header := _SECTION.fullmatch(text):
            found.append((header[1], {}))
        elif "=" in text and found:
            name, _, value = text.partition("=")
            found[-1][1][name.strip()] = value.strip()
        elif text and not text.startswith(";"):
            raise cfg.damaged(f"the line {text[:60]!r} in a .cfg")
    if len(found) > _MAX_SECTIONS:
        raise cfg.damaged(f"a .cfg with {len(found)} layers; the limit is {_MAX_SECTIONS}")
    return found


def _number(cfg: WeightFile, fields: Mapping[str, str], name: str, default: int) -> int:
    value = fields.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", value):
        raise cfg.damaged(f"{name}={value[:60]} in a .cfg")
    return int(value)
