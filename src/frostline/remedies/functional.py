"""Find activations that a forward calls as functions: a look at the source, as far as it can be read."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from frostline.core.activations import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Generator


def functional_uses(model: nn.Module, kind: type[nn.Module]) -> list[tuple[str, str]]:
    """(layer, note) for each module whose source calls this activation as a function.

    The source of the module's class and of its own base classes is read; what a helper outside of the class calls is
    not seen, and neither is a class without source.
    """
    sources = {cls: tuple(_in_source(cls, kind)) for cls in {type(module) for module in model.modules()}}
    return [
        (name, note)
        for name, module in model.named_modules()
        for note in (*_by_nature(module, kind), *sources[type(module)])
    ]


def function_names(kind: type[nn.Module]) -> set[str]:
    """Names of the functions that do what this module does: `relu`, `relu_` for nn.ReLU."""
    return {name for name, module in FUNCTIONS.items() if module == kind.__name__}


def _by_nature(module: nn.Module, kind: type[nn.Module]) -> Generator[str]:
    """Activations that are part of what a torch module is."""
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        inner = getattr(module, "nonlinearity", None)
        uses = {"tanh": nn.Tanh, "relu": nn.ReLU}.get(str(inner)) if inner else None
        if kind is uses or (not inner and kind in (nn.Tanh, nn.Sigmoid)):
            yield f"nn.{type(module).__name__} computes its {kind.__name__} inside, which cannot be swapped"
    if isinstance(module, nn.MultiheadAttention) and kind is nn.Softmax:
        yield "nn.MultiheadAttention computes its Softmax inside, which cannot be swapped"


def _in_source(cls: type[Any], kind: type[nn.Module]) -> Generator[str]:
    names = function_names(kind)
    for base in cls.__mro__:
        if base is object or base.__module__.startswith("torch."):
            continue
        try:
            lines, first = inspect.getsourcelines(base)
            tree = ast.parse(textwrap.dedent("".join(lines)))
            file = Path(inspect.getsourcefile(base) or "?").name
        except (OSError, TypeError, SyntaxError):
            yield f"the source of {base.__name__} cannot be read; what it calls as a function is not known"
            continue
        for line, call in _calls(tree, names, kind.__name__):
            yield f"calls {call} at {file}:{first + line - 1}, which cannot be swapped; make it a module"


def _calls(tree: ast.Module, functions: set[str], module: str) -> Generator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        target = node.func
        if isinstance(target, ast.Call) and _leaf(target.func) == module:  # nn.ReLU()(x), made on the spot
            yield node.lineno, ast.unparse(target)
        is_own = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
        if _leaf(target) in functions and not is_own:
            yield node.lineno, ast.unparse(target)


def _leaf(target: ast.expr) -> str:
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""
