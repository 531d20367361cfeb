"""Swap activations in place."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from frostline.core.activations import FUNCTIONS, is_activation, is_kind, kind_of, make
from frostline.core.arguments import check_model
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.layers import frozen_modules, layer_names
from frostline.core.records import Change
from frostline.remedies.surgery import (
    Snapshot,
    adopt,
    chosen_modules,
    dismiss,
    grouped,
    inherit_hooks,
    left_alone,
    placement,
    replace_everywhere,
    slots,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from torch.optim import Optimizer

    from frostline.core.activations import Activation


@public("swap_activations")
def swap_activations(
    model: nn.Module,
    old: str | type[nn.Module] | None,
    new: Activation,
    *,
    layers: Iterable[str] | str | None = None,
    optimizer: Optimizer | None = None,
) -> Change:
    """Put another activation where `old` is, everywhere or in some layers; the weights stay.

    A module that is used in several places is replaced by one new module in all of them. The new one keeps the mode,
    device, dtype and hooks, and never works in place. A function that is held as an attribute
    (`nn.TransformerEncoderLayer.activation`) is swapped, too; one that a forward calls by name (`F.relu(x)`) cannot be:
    the notes say where, from a look at the source, as far as that can be read.

    Args:
        model: The model, changed in place.
        old: `relu`, `leaky_relu`, `prelu`, `elu`, `selu`, `gelu`, `silu`, `tanh`, `sigmoid`, or a class. None, with
            `layers`, takes any activation there.
        new: One of these names, a class, an instance (`nn.ELU(alpha=0.5)`; each place gets a copy) or a function that
            makes one.
        layers: Names or globs; a name stands for what is inside. Frozen activations are only swapped when they are
            named themselves. None is the whole model.
        optimizer: Gets the weights of a new PReLU, in the group of the layer before it, and loses those of an old one.

    Returns:
        The names that were swapped; the undo; what could not be swapped.

    Raises:
        LayerNotFound: If a name or glob fits nothing.
        DataError: If an activation is not known, or no activation to swap is named.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        >>> change = swap_activations(model, "relu", nn.ELU(alpha=0.5))
        >>> model[1]
        ELU(alpha=0.5)
        >>> change.undo()
        >>> model[1]
        ReLU()
    """
    check_model("swap_activations", model, needs=())
    if old is None and layers is None:
        raise DataError(
            what="No activation to swap was named.", where="swap_activations(model, old, new)",
            received="old=None, layers=None", do="pass a class or name as old, or layers=.",
        )  # fmt: skip
    make(new)
    kind = kind_of(old) if old is not None else None
    inside, named = chosen_modules(model, layers)
    found = {name: m for name, m in inside.items() if _is_meant(m, kind)}
    frozen = left_alone(model, found, named)
    notes = [(name, "frozen, left alone; name it in layers= to swap it") for name in frozen]
    notes += [(name, "is the model itself, which nothing holds") for name in found if not name]
    chosen = {name: m for name, m in found.items() if name and name not in frozen}
    snapshot, pinned = Snapshot(model, optimizer), frozen_modules(model)
    try:
        for name, module in chosen.items():
            notes += _swap(model, name, module, new, optimizer, pinned)
        held, more = _swap_attributes(model, inside, kind, new, snapshot, named)
        _tell_transformer_layers(model, snapshot)
    except Exception:
        snapshot.restore()
        raise
    notes += more + (functional_uses(model, kind) if kind is not None else [])
    missing = [(kind.__name__, "no such module in these layers")] if kind is not None and not (chosen or held) else []
    order = layer_names(model)
    layers_changed = sorted([*chosen, *held], key=lambda name: order.index(name) if name in order else -1)
    return Change(tuple(layers_changed), snapshot.restore, grouped(missing + notes))


def _is_meant(module: nn.Module, kind: type[nn.Module] | None) -> bool:
    return is_activation(module) if kind is None else is_kind(module, kind)


def _swap(
    model: nn.Module, name: str, old: nn.Module, new: Activation, optimizer: Optimizer | None, frozen: set[int]
) -> list[tuple[str, str]]:
    made = make(new)
    like = placement(model, old)
    if like is not None:
        made.to(device=like.device, dtype=like.dtype)
    replace_everywhere(model, old, made)
    inherit_hooks(made, old)
    notes = _train(made, name, like, optimizer, is_frozen=id(old) in frozen)
    for parameter in old.parameters():
        if not slots(model, parameter):
            dismiss(optimizer, parameter)
    return notes


def _train(
    made: nn.Module, name: str, like: nn.Parameter | None, optimizer: Optimizer | None, *, is_frozen: bool
) -> list[tuple[str, str]]:
    """Give the weights of a new activation to the optimizer, unless they stand in a frozen part."""
    own = [(f"{name}.{key}", parameter) for key, parameter in made.named_parameters()]
    for _, parameter in own:
        parameter.requires_grad_(not is_frozen)
    if not own or is_frozen or adopt(optimizer, own, like):
        return []
    return [(name, "has new weights that no optimizer trains; pass optimizer=, or add them to yours")]


def _swap_attributes(
    model: nn.Module, inside: dict[str, nn.Module], kind: type[nn.Module] | None, new: Activation, snapshot: Snapshot,
    named: set[int],
) -> tuple[list[str], list[tuple[str, str]]]:  # fmt: skip
    """Functions that a module holds as an attribute and calls through it."""
    functions = _functions(kind)
    found = {
        f"{name}.{attribute}" if name else attribute: (module, attribute)
        for name, module in inside.items()
        for attribute, value in vars(module).items()
        if not attribute.startswith("_") and any(value is function for function in functions)
    }
    frozen = left_alone(model, {name: module for name, (module, _) in found.items()}, named)
    held: list[str] = []
    frozen_ids = frozen_modules(model)
    notes = [(name, "frozen, left alone; name its layer in layers= to swap it") for name in frozen]
    for name, (module, attribute) in found.items():
        if name in frozen:
            continue
        made = make(new)
        like = placement(model, module)
        made.to(device=like.device, dtype=like.dtype) if like is not None else None
        made.train(module.training)
        snapshot.set_attribute(module, attribute, made)
        held.append(name)
        notes += _train(made, name, like, snapshot.optimizer, is_frozen=id(module) in frozen_ids)
    return held, notes


def _functions(kind: type[nn.Module] | None) -> list[Any]:
    names = function_names(kind) if kind is not None else {"relu", "gelu", "silu", "tanh", "sigmoid"}
    return [getattr(home, name) for name in names for home in (F, torch) if hasattr(home, name)]


def _tell_transformer_layers(model: nn.Module, snapshot: Snapshot) -> None:
    """The fast path of an encoder layer does not call its activation: a number selects the one that is built in."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            act: Any = module.activation
            if act is F.relu or isinstance(act, nn.ReLU):
                number = 1
            else:
                number = 2 if act is F.gelu or (isinstance(act, nn.GELU) and act.approximate == "none") else 0
            if module.activation_relu_or_gelu != number:
                snapshot.set_attribute(module, "activation_relu_or_gelu", number)


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
            yield f"the source of {base.__name__} cannot be read; functions that it calls cannot be listed"
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
