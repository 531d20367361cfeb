"""Whether a module is the one that the scaffold writes for a file: then its axes are known to be those of the file."""

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
_SIGN = "written by Frostline"  # in the text above the class, which spares other modules the comparison


def keeps_axes(source: Source, path: str, model: nn.Module) -> bool:
    """Whether the class of a module is, word for word but for its layout, what is written for a graph of ONNX.

    Such a module computes node by node what the graph does, without another order of axes. A class that was changed by
    hand is none: whatever was changed may have turned what a layer takes.

    Args:
        source: The file.
        path: Of the file.
        model: The module; nothing is run.
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
