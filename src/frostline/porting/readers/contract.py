"""The value that every reader returns: named arrays, and everything else that the file states about its network.

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
        name: Its full name, which is unique in the file.
        shape: Its stored shape.
        dtype: PyTorch's name of its dtype (`float32`, `bfloat16`, ...).
        unit: Its layer: the tensors of one unit are assigned together. The name is the most specific one in the file
            (`conv2_block1_1_conv`, not `layers/conv2d_3`), with `/` between scopes.
        leaf: Its role in the layer, as its framework calls it (`kernel`, `gamma`, `weight`); empty if unknown.
        load: Reads the array, contiguous. Each call reads it again; the file must be open.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    unit: str
    leaf: str
    load: Callable[[], Tensor] = field(compare=False, repr=False)


@dataclass(frozen=True)
class SourceLayer:
    """One layer or node of a network, if the file contains the architecture.

    Attributes:
        name: As in `SourceTensor.unit`, if it has tensors.
        kind: Its class or operator, as its framework calls it (`Conv2D`, `BatchNormalization`, `Gemm`).
        config: Its settings, as its framework names them: plain numbers, strings, lists and mappings.
        inputs: Names of the layers whose outputs it takes, in order; empty for an input layer.
        unit: The unit whose tensors it uses, if that has another name: the second call of a layer (`encoder:1`).
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
        format: The name of the format, for messages (`Keras 3 weights`, `TensorFlow checkpoint`).
        framework: The framework whose layouts its tensors have: `keras`, `flax`, `onnx`, `torch`, `caffe`, `paddle`,
            `mxnet`, `sklearn`, `darknet`, `matconvnet`, `tensorflow` (names of TF1), `gguf`, or `numpy` (arrays whose
            names fit no framework: their layout is unknown).
        tensors: Every array that is part of the network, in the order of `order`.
        order: The origin of the order of `tensors`: `graph` (the architecture in the file), `layers` (numbers that a
            framework assigns to the layers of one class in the order of their execution), `numbers` (numbers in names:
            `conv2d_2` before `conv2d_10`), `made` (the order in which a program created the layers, which may be
            executed in another order), or `file` (the order in the file, which is no evidence).
        layers: The architecture in an executable order; empty if the file contains none.
        dropped: Arrays that are not part of the network, by name, with their drop class (`optimizer slot`,
            `moving average`, `counter`, `random state`).
        notes: One sentence for each wrapper that was removed, and for each choice that was made.
        inputs: The layers of `layers` that take the network's inputs, in order; empty if the file does not state them.
        outputs: The layers of `layers` whose outputs the network returns, in order; likewise.
        opset: The version of the ONNX operators of the layers; 0 for other formats.
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
