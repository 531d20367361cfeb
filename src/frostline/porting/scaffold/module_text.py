"""The text of a PyTorch module that computes what the network of a file does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.interpreter.network import input_names, interpret, output_names, version
from frostline.porting.interpreter.samples import samples
from frostline.porting.scaffold.call import Call, NotWrittenError, identifier
from frostline.porting.scaffold.functions import FUNCTIONS
from frostline.porting.scaffold.weighted import WEIGHTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from frostline.porting.readers.contract import Source, SourceLayer

_HEAD = '''"""A network of {format}: written by Frostline from the architecture in the file, and yours to change.

Images have their channels on axis 1, sequences on the last.
"""

{imports}


class {name}(nn.Module):
    """{inputs}"""

    def __init__(self) -> None:
        super().__init__()
'''


def module_text(source: Source, path: str, name: str = "Network") -> str:
    """A file of Python with one class, whose layers are named as those of the file, and which the port fills.

    Args:
        source: A Keras network with its architecture.
        path: Of the file, for messages.
        name: Of the class.

    Raises:
        PortError: If a layer of the network is none of those that are written; it names the first.
    """
    try:
        return _Writer(source, interpret(source, samples(source)).shapes).text(name)
    except (NotInterpretedError, NotWrittenError) as error:
        raise PortError(
            what="No module can be written for this network.", where=path,
            received=str(error).removeprefix("not interpreted: "),
            do="write the module by hand, and port the weights into it.",
        ) from error  # fmt: skip


class _Writer:
    """Layers become attributes and lines, in the order in which they are computed."""

    def __init__(self, source: Source, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._source, self._shapes = source, shapes
        self._names: dict[str, str] = {}  # of values, by layer
        self._attributes: dict[str, str] = {}  # of layers, by unit
        self._made: dict[str, str] = {}
        self._lines: list[str] = []
        self._version = version(source)

    def text(self, name: str) -> str:
        """The whole file."""
        inputs, outputs = input_names(self._source), output_names(self._source)
        for one in inputs:
            self._names[one] = _unused(one, self._names.values())
        for index, layer in enumerate(self._source.layers):
            if layer.name not in inputs:
                self._write(layer, index, outputs)
        arguments = [self._names[one] for one in inputs]
        shapes = "; ".join(f"`{self._names[one]}` {self._shape(one)}" for one in inputs)
        text = _HEAD.format(
            format=self._source.format, imports=self._imports(), name=identifier(name), inputs=f"Takes {shapes}."
        )
        text += "".join(f"        self.{own} = {made}\n" for own, made in self._made.items())
        text += f"\n    def forward(self, {', '.join(f'{one}: Tensor' for one in arguments)}) -> "
        text += "Tensor:\n" if len(outputs) == 1 else f"tuple[{', '.join(['Tensor'] * len(outputs))}]:\n"
        text += "".join(f"        {line}\n" for line in self._lines)
        return f"{text}        return {', '.join(self._names[one] for one in outputs)}\n"

    def _write(self, layer: SourceLayer, index: int, outputs: tuple[str, ...]) -> None:
        unit = layer.unit or layer.name
        if unit not in self._attributes:
            self._attributes[unit] = _unused(unit, self._attributes.values())
        call = Call(
            self._attributes[unit], layer.kind, layer.config, tuple(self._sizes(one) for one in layer.inputs),
            self._sizes(layer.name), tuple(self._names[one] for one in layer.inputs), self._version,
        )  # fmt: skip
        if layer.kind in WEIGHTED:
            made, expression = WEIGHTED[layer.kind](call)
            self._made |= made
        elif layer.kind in FUNCTIONS:
            stands, expression = FUNCTIONS[layer.kind](call)
            self._made |= {call.name: stands} if stands else {}
        else:
            call.refuse()
        takers = [other for other in self._source.layers if layer.name in other.inputs]
        following = self._source.layers[index + 1] if index + 1 < len(self._source.layers) else None
        is_sole_end = outputs == (layer.name,) and following is None
        is_passed_on = following is not None and takers == [following] and len(following.inputs) == 1
        is_passed_on = is_sole_end or (is_passed_on and layer.name not in outputs)
        self._names[layer.name] = "x" if is_passed_on else _unused(layer.name, self._names.values())
        self._lines.append(f"{self._names[layer.name]} = {expression}")

    def _sizes(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def _shape(self, name: str) -> str:
        sizes = self._sizes(name)
        inner = (sizes[-1], *sizes[1:-1]) if len(sizes) > 3 else sizes[1:]
        return f"(batch, {', '.join(map(str, inner))})"

    def _imports(self) -> str:
        body = "\n".join([*self._made.values(), *self._lines])
        lines = ["import torch"] if "torch." in body else []
        lines += ["import torch.nn.functional as F"] if "F." in body else []
        lines.append("from torch import Tensor, nn")
        lines += ["", "from frostline.porting import blocks"] if "blocks." in body else []
        return "\n".join(lines)


def _unused(name: str, taken: Iterable[str]) -> str:
    """An identifier for a name of the file that nothing else has yet."""
    plain, used = identifier(name), set(taken)
    while plain in used:
        plain += "_"
    return plain
