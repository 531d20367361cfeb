"""The translations of all operators, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.scaffold.onnx.arrangements import SHAPING
from frostline.porting.scaffold.onnx.convolutions import CONVOLUTIONS
from frostline.porting.scaffold.onnx.elementwise import ELEMENTWISE
from frostline.porting.scaffold.onnx.index_operators import INDEXING
from frostline.porting.scaffold.onnx.norms import NORMS
from frostline.porting.scaffold.onnx.recurrent import RECURRENT
from frostline.porting.scaffold.onnx.reductions import REDUCTIONS
from frostline.porting.scaffold.onnx.windows import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.porting.scaffold.onnx.node import Node, Result

OPERATORS: dict[str, Callable[[Node], Result]] = {
    **ELEMENTWISE, **SHAPING, **INDEXING, **REDUCTIONS, **WINDOWS, **CONVOLUTIONS, **RECURRENT, **NORMS,
}  # fmt: skip
