"""The text of a module, and the only two things of a file that enter it: checked identifiers and numbers."""

from __future__ import annotations

import keyword
import math
import re
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TAKEN = frozenset(dir(nn.Module())) | frozenset(keyword.kwlist) | {"torch", "nn", "F", "blocks", "self", "x", "math"}

_HEAD = '''"""The network of {file} ({format}): written by Frostline from its architecture, and yours to change.

{axes}
"""

{imports}


class {name}(nn.Module):
    """{inputs}"""

    def __init__(self) -> None:
        super().__init__()
'''


# Exceptions that settings of a file cause if they contradict each other.
CONTRADICTIONS = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, StopIteration)


class NotWrittenError(Exception):
    """A layer that has no translation; the text names it.

    Args:
        text: The layer, and the reason.
        do: The remedy; empty for the general one.
    """

    def __init__(self, text: str, do: str = "") -> None:
        super().__init__(text)
        self.do = do


def module_source(
    *, file: str, format: str, axes: str, name: str, inputs: Mapping[str, str], made: Mapping[str, str],
    lines: Sequence[str], outputs: Sequence[str],
) -> str:  # fmt: skip
    """The text of a Python file with one class.

    Args:
        file: The path of the file of weights; only its name enters the text.
        format: The format of the file.
        axes: A sentence about the order of axes.
        name: The name of the class.
        inputs: The arguments of `forward`, each with a description of its shape.
        made: By attribute: its expression in `__init__`, or `register_buffer(...)`.
        lines: The statements of `forward`.
        outputs: The expressions that `forward` returns.
    """
    shapes = "; ".join(f"`{one}` {shape}".rstrip() for one, shape in inputs.items())
    text = _HEAD.format(
        file=re.sub(r"[^A-Za-z0-9_.-]+", "_", PurePath(file).name), format=format, axes=axes, name=identifier(name),
        imports=_imports([*made.values(), *lines, *outputs]), inputs=f"Takes {shapes}.",
    )  # fmt: skip
    text += "".join(
        f"        self.{text if text.startswith('register_buffer(') else f'{own} = {text}'}\n"
        for own, text in made.items()
    )
    text += f"\n    def forward(self, {', '.join(f'{one}: Tensor' for one in inputs)}) -> "
    text += "Tensor:\n" if len(outputs) == 1 else f"tuple[{', '.join(['Tensor'] * len(outputs))}]:\n"
    text += "".join(f"        {line}\n" for line in lines)
    return f"{text}        return {', '.join(outputs)}\n"


def _imports(body: Sequence[str]) -> str:
    text = "\n".join(body)
    lines = [f"import {name}" for name in ("math", "torch") if re.search(rf"\b{name}\.", text)]
    lines = [*lines[:-1], "", lines[-1]] if len(lines) > 1 else lines
    lines += ["import torch.nn.functional as F"] if re.search(r"\bF\.", text) else []
    lines.append("from torch import Tensor, nn")
    lines += ["", "from frostline.porting import blocks"] if "blocks." in text else []
    return "\n".join(lines)


def short(sizes: Sequence[int]) -> str:
    """Sizes as text: one number if all are equal."""
    return str(sizes[0]) if len(set(sizes)) == 1 else str(tuple(sizes))


def decimal(value: float) -> str:
    """A number as text, without the digits that float32, or a difference in float64, adds to it.

    Example:
        >>> decimal(0.0010000000474974513), decimal(1 - 0.99), decimal(1 / 255)
        ('0.001', '0.01', '0.00392156862745098')
    """
    if not math.isfinite(value):
        raise NotWrittenError(f"the number {value}")
    with np.errstate(over="ignore"):
        single = np.float32(value)
    digits = next((count for count in (7, 9) if np.float32(f"{value:.{count}g}") == single), 15)
    return f"{value:.{digits if float(single) == value else 15}g}"


def literal(value: float | bool) -> str:
    """The shortest text of a number that gives the same float32, or the same float64 if it is not a float32.

    Example:
        >>> literal(0.10000000149011612), literal(2), literal(True), literal(-math.inf)
        ('0.1', '2', 'True', '-math.inf')
    """
    if isinstance(value, (bool, int)):
        return str(value)
    if math.isinf(value):
        return "math.inf" if value > 0 else "-math.inf"
    if math.isnan(value):
        return "math.nan"
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return str(single) if float(single) == value else repr(value)


def identifier(name: str) -> str:
    """A valid identifier for a name of the file: letters, digits and underscores only."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "layer"
    plain = f"layer_{plain}" if plain[0].isdigit() else plain
    return f"{plain}_" if plain in _TAKEN else plain


def unused(name: str, taken: Iterable[str]) -> str:
    """An identifier for a name of the file that is not taken yet."""
    plain, used = identifier(name), set(taken)
    while plain in used:
        plain += "_"
    return plain
