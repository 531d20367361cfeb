"""What every reader returns: named arrays, and what else the file states about its network.

A reader is a module of this folder that fulfils `Reader`. Both of its functions raise `PortError` for a file that is
damaged, hostile, or of a kind that is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile


@dataclass(frozen=True)
class SourceTensor:
    """One array of a file.

    Attributes:
        name: Its whole name in the file, unique there.
        shape: Its shape as it is stored.
        dtype: PyTorch's name of its dtype (`float32`, `bfloat16`, ...).
        unit: The layer that it belongs to: tensors of one unit are moved together. Names of the source network,
            separated by `/`; the best that the file knows (`conv2_block1_1_conv`, not `layers/conv2d_3`).
        leaf: What it is in that layer, in the words of its framework (`kernel`, `gamma`, `weight`); empty if unknown.
        load: Reads the array, contiguous; each call reads it anew, while the file is open.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    unit: str
    leaf: str
    load: Callable[[], Tensor] = field(compare=False, repr=False)


@dataclass(frozen=True)
class SourceLayer:
    """One layer or node of a network whose architecture the file carries.

    Attributes:
        name: As in `SourceTensor.unit`, if it has tensors.
        kind: Its class or operator in the words of its framework (`Conv2D`, `BatchNormalization`, `Gemm`).
        config: Its settings in the words of its framework: plain numbers, texts, lists and mappings.
        inputs: Names of the layers whose outputs it takes, in order; empty for an input layer.
        unit: The unit whose tensors it uses, if its name is another: a layer that is called again (`encoder:1`).
    """

    name: str
    kind: str
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    inputs: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Source:
    """The content of a file of weights.

    Attributes:
        format: What the file is, for people (`Keras 3 weights`, `TensorFlow checkpoint`).
        framework: Whose layouts its tensors follow: `keras`, `flax`, `onnx`, `torch`, `caffe`, `paddle`, `mxnet`,
            `sklearn`, `darknet`, `matconvnet`, `tensorflow` (names of TF1), `gguf`, or `numpy` (arrays whose names do
            not tell: their layout is unknown).
        tensors: Every array that is part of the network, in the order of `order`.
        order: What the order of `tensors` follows: `graph` (the architecture in the file), `layers` (numbers that a
            framework gives layers of one class as the network runs them, whatever their names), `numbers` (numbers in
            names: `conv2d_2` before `conv2d_10`), `made` (as a program made the layers, which also gave their names
            numbers: they may run in another order), or `file` (as they stand there: no evidence of anything).
        layers: The architecture, in an order in which it can be computed; empty if the file carries none.
        dropped: Arrays that are no part of the network, by name: the class they were dropped in (`optimizer slot`,
            `moving average`, `counter`, `random state`).
        notes: One sentence for each wrapper that was looked into, and each choice that was made.
        inputs: The layers of `layers` that take the network's inputs, in their order; empty if the file does not say.
        outputs: The layers of `layers` whose outputs the network gives, in their order; likewise.
        opset: The version of ONNX's operators that the layers are written in; 0 for other formats.
    """

    format: str
    framework: str
    tensors: tuple[SourceTensor, ...]
    order: str = "file"
    layers: tuple[SourceLayer, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    opset: int = 0


class Reader(Protocol):
    """A module that reads one format."""

    @property
    def HAS_ENTRIES(self) -> bool:  # noqa: N802
        """Whether a file of this format may hold several networks.

        If so, `read` also takes `key`, the entry that holds the wanted network; otherwise `open_source` refuses a key.
        """
        ...

    @property
    def read(self) -> Callable[..., Source]:
        """The function `read(file)` or `read(file, key)`, which returns every array of the file.

        It reads data only: no code of the file runs, other files are opened through `file` only, and an array is loaded
        when its `load` is called, not before.
        """
        ...

    def claims(self, file: WeightFile, /) -> bool:
        """Whether the content is of this format. The first bytes or the table of contents decide, not the file name."""
        ...
