"""Whether a module is the unchanged scaffold of an ONNX file: then its axes are known to be those of the file."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.scaffold.module_text import module_text

if TYPE_CHECKING:
    from torch import nn

    from frostline.porting.readers.contract import Source

NOTE = "The module is the one that `--scaffold` writes for this file: weights lie in the order of the file's axes."
_SIGN = "written by Frostline"  # in the docstring of the module; other modules are not compared


def keeps_axes(source: Source, path: str, model: nn.Module) -> bool:
    """Whether the class of a module is the class that is written for this ONNX graph, apart from formatting.

    Such a module computes the graph node by node, with the same order of axes. A class that was edited does not count:
    the change may transpose the input of a layer.

    Args:
        source: The file.
        path: The path of the file.
        model: The module; it is not run.
    """
    kind = type(model)
    if source.framework != "onnx" or _SIGN not in (getattr(sys.modules.get(kind.__module__), "__doc__", "") or ""):
        return False
    try:
        own = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        written = ast.parse(module_text(source, path, kind.__name__)).body
    except (OSError, TypeError, SyntaxError, RecursionError, PortError):
        return False
    return any(isinstance(one, ast.ClassDef) and ast.dump(one) == ast.dump(own) for one in written)
