"""Freeze the lower layers: parameters, running statistics and noise; and thaw them again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]  # all kinds of it

from frostline.core.arguments import as_items, as_names, check_model
from frostline.core.errors import LayerNotFound
from frostline.core.layers import MODE, check_initialized, first_name, matching, resolve, unwrapped
from frostline.core.records import FreezeSummary
from frostline.transfer.promise import CHILDREN, FROZEN, check_promise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_T = TypeVar("_T")
_HEADS = ("classifier", "fc", "head", "heads", "score", "lm_head")


def freeze(
    model: nn.Module,
    through: str | None = None,
    *,
    patterns: Iterable[str] | None = None,
    modules: Iterable[nn.Module] | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
) -> FreezeSummary:
    """Freeze a part of a model, so that its output no longer depends on training.

    Frozen parameters take no gradient and lose a stale `.grad`. Frozen modules stay in inference mode: running
    statistics stand still and are used, dropout and stochastic depth are off. `model.train()`, `copy.deepcopy`,
    pickling and `load_state_dict` keep the freeze; `state_dict()` gains no keys.

    Args:
        model: The model, changed in place.
        through: A layer name: everything registered up to and including it is frozen, and the parameters held
            directly by its ancestors (a class token, a position embedding). Order is that of `named_modules()`.
        patterns: Globs over qualified names of modules and parameters.
        modules: Modules of the model; each is frozen whole.
        parameters: Parameters of the model.
            With none of these the whole model is frozen.

    Returns:
        What changed, and the share of the model that is frozen now. A parameter that a frozen and a trainable layer
        share is frozen for both.

    Raises:
        LayerNotFound: If a name, pattern, module or parameter is not in the model.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
        >>> freeze(model, through="1").layers
        ('0', '1')
        >>> model.train()[1].training
        False
    """
    check_model("freeze", model, needs=())
    patterns = as_names("freeze", "patterns", patterns) if patterns is not None else None
    modules = as_items("freeze", "modules", modules) if modules is not None else None
    parameters = as_items("freeze", "parameters", parameters) if parameters is not None else None
    model, wrappers = unwrapped(model)
    check_initialized(model, "freeze(model)")
    before = _state(model)
    patterns, modules = _once(patterns), _once(modules)
    chosen = _choose(model, through, patterns, modules)
    held = [*_parameters_of(model, parameters)]
    if patterns is not None:
        by_name = dict(model.named_parameters(remove_duplicate=False))
        held += [by_name[name] for name in matching(patterns, _names(model)) if name in by_name]
    if through is not None:
        held += _held_by_ancestors(model, through)
    if through is None and patterns is None and modules is None and parameters is None:
        chosen = list(model.modules())
    frozen = [*held, *(p for module in chosen for p in module.parameters(recurse=False))]
    among = {id(parameter) for parameter in frozen}
    tables = [module for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))]
    tables = [module for module in tables if id(module._parameters.get("weight")) in among]
    check_promise(model, "freeze(model)", tables)
    _remember(model, among)
    for parameter in frozen:
        parameter.requires_grad_(False)
        parameter.grad = None
    for module in [*chosen, *_wholly_frozen(model)]:
        _keep_in_inference_mode(module)
    _note_children(model)
    notes = [f"the model inside of {wrapper} was frozen" for wrapper in wrappers]
    if through is not None:
        notes += _order_notes(model, chosen, through)
    return _summary(model, before, tuple(notes))


def thaw(model: nn.Module, down_to: str | None = None, *, all: bool = False) -> FreezeSummary:
    """Make trainable what `freeze` froze, and nothing else: the reverse of `freeze`.

    Args:
        model: The model, changed in place.
        down_to: A layer name: it and everything registered after it is thawed. None thaws the whole model, the
            parameters held directly by containers included.
        all: Also make trainable what was fixed before `freeze`, such as a fixed table of positions.

    Returns:
        What changed, the share that is still frozen, and a note on parameters that stay fixed.

    Raises:
        LayerNotFound: If there is no such layer.
    """
    check_model("thaw", model, needs=())
    model, wrappers = unwrapped(model)
    check_initialized(model, "thaw(model)")
    check_model("thaw", model, needs=("training",))
    before = _state(model)
    chosen = _after(model, down_to) if down_to is not None else list(model.modules())
    mode = vars(model)[MODE] if _is_kept(model) else model.training
    thawed: set[int] = set()
    for module in chosen:
        frozen = _parameters_now(module, vars(module).get(FROZEN, ()))
        if all:
            frozen += [one for one in module.parameters(recurse=False) if one.dtype.is_floating_point]
        for parameter in frozen:
            thawed.add(id(parameter))
            parameter.requires_grad_(True)
        _release(module, mode)
    held = [parameter for module in chosen for parameter in module.parameters(recurse=False)]
    fixed = sum(not parameter.requires_grad and parameter.dtype.is_floating_point for parameter in held)
    for module in model.modules():  # a container that is no longer wholly frozen follows train() again
        if _is_kept(module) and any(parameter.requires_grad for parameter in module.parameters()):
            _release(module, mode)
    _forget(model, thawed)
    _note_children(model)
    notes = [f"the model inside of {wrapper} was thawed" for wrapper in wrappers]
    if fixed:
        count = "1 parameter was" if fixed == 1 else f"{fixed} parameters were"
        notes.append(f"{count} fixed before freeze, and not thawed; thaw(model, all=True) thaws all")
    return _summary(model, before, tuple(notes))


def keep_statistics(model: nn.Module, names: Iterable[str]) -> tuple[str, ...]:
    """Hold normalisations in inference mode although they train: running statistics stand still and are used.

    Args:
        model: The model.
        names: Parameters; the normalisations with running statistics that hold one of them are meant.

    Returns:
        Their names. `thaw` gives them back.
    """
    owners = {name.rpartition(".")[0] for name in names}
    found = {name: module for name, module in model.named_modules()
             if name in owners and isinstance(module, _NormBase) and module.running_mean is not None}  # fmt: skip
    for module in found.values():
        _keep_in_inference_mode(module)
    _note_children(model)
    return tuple(found)


def stay_frozen(module: nn.Module, mode: bool = True) -> nn.Module:
    """What `module.train` is while the module is frozen: inference mode, whatever the argument."""
    del mode
    module.training = False
    for child in module.children():
        child.train(False)
    return module


def follow_train(module: nn.Module) -> None:
    """Let a module that holds a new trainable layer follow `train()` again; its mode is left as it is."""
    for name in ("train", MODE):
        vars(module).pop(name, None)


class _BoundToItself(partial):  # type: ignore[type-arg]
    """`partial(stay_frozen, module)`; a module-level class, so that deep copies and pickles rebind to the copy."""


# A flag that is set once would be lost in `model.train()`, in a deep copy and in a pickle, so that running statistics
# would move again: the module gets a `train` of its own, which all three keep.
def _keep_in_inference_mode(module: nn.Module) -> None:
    if not _is_kept(module):
        vars(module)[MODE] = getattr(module, "training", False)  # a script of torch.jit.freeze has none
        object.__setattr__(module, "train", _BoundToItself(stay_frozen, module))
    module.training = False


def _release(module: nn.Module, mode: bool) -> None:
    """Give the module's mode back: that of the model, unless it had one of its own before the freeze."""
    if not _is_kept(module):
        return
    vars(module).pop("train")
    own = vars(module).pop(MODE)
    module.training = mode and own


def _note_children(model: nn.Module) -> None:
    for module in model.modules():
        held = tuple(name for name, child in module.named_children() if _is_kept(child))
        if held:
            vars(module)[CHILDREN] = held
        else:
            vars(module).pop(CHILDREN, None)


# `thaw` must not release what was fixed before `freeze` was called, such as a table of positions: so each module
# keeps which of its parameters trained.
def _remember(model: nn.Module, among: set[int]) -> None:
    """Note on every module which of its parameters are trainable and about to be frozen, for `thaw`."""
    for module in model.modules():
        own = module.named_parameters(recurse=False)
        names = [name for name, parameter in own if id(parameter) in among and parameter.requires_grad]
        if names:
            vars(module)[FROZEN] = (*vars(module).get(FROZEN, ()), *names)


def _parameters_now(module: nn.Module, names: Iterable[str]) -> list[nn.Parameter]:
    """The module's parameters of these names, or what a norm or parametrization since has made of them."""
    own = dict(module.named_parameters(recurse=False))
    made: Any = dict(module.named_children()).get("parametrizations", {})
    found: list[nn.Parameter] = []
    for name in names:
        if name in own:
            found.append(own[name])
        elif name in made:
            found += list(made[name].parameters())
        else:
            found += [parameter for key, parameter in own.items() if key.startswith(f"{name}_")]  # weight_g, weight_v
    return found


def _forget(model: nn.Module, thawed: set[int]) -> None:
    for module in model.modules():
        if FROZEN not in vars(module):
            continue
        names = vars(module)[FROZEN]
        left = tuple(name for name in names if any(id(p) not in thawed for p in _parameters_now(module, [name])))
        if left:
            vars(module)[FROZEN] = left
        else:
            del vars(module)[FROZEN]


def _once(values: Iterable[_T] | None) -> list[_T] | None:
    return list(values) if values is not None else None


def _order_notes(model: nn.Module, chosen: list[nn.Module], through: str) -> list[str]:
    """What was frozen although it probably runs after `through`: output layers that are registered before it."""
    inside = {id(module) for module in chosen} - {id(module) for module in resolve(model, through).modules()}
    heads: list[nn.Module | None] = [getattr(model, name, None) for name in _HEADS]
    for getter in ("get_classifier", "get_output_embeddings"):
        found: Any = getattr(model, getter)() if callable(getattr(model, getter, None)) else None
        heads += list(cast("Sequence[nn.Module]", found)) if isinstance(found, (tuple, list)) else [found]
    late = {first_name(model, head): None for head in heads if isinstance(head, nn.Module) and id(head) in inside}
    return [
        f"{name!r} was frozen too: it is registered before {through!r}, but by its name it is an output layer that "
        f"runs later; frostline.freeze(model, patterns=[...]) freezes by name"
        for name in late
    ]


def _is_kept(module: nn.Module) -> bool:
    return isinstance(module.__dict__.get("train"), _BoundToItself)


def _choose(
    model: nn.Module, through: str | None, patterns: Iterable[str] | None, modules: Iterable[nn.Module] | None
) -> list[nn.Module]:
    chosen: list[nn.Module] = []
    if through is not None:
        chosen += _up_to(model, through)
    if patterns is not None:
        found = matching(patterns, _names(model))
        named = model.named_modules(remove_duplicate=False)
        chosen += [part for name, module in named if name in found for part in module.modules()]
    known = {id(module) for module in model.modules()}
    for module in modules or ():
        if id(module) not in known:
            raise _foreign(model, f"a {type(module).__name__}", "modules")
        chosen += list(module.modules())
    return chosen


def _up_to(model: nn.Module, through: str) -> list[nn.Module]:
    """Modules registered up to `through`, its descendants included, its ancestors not."""
    last = resolve(model, through)
    inside = {id(module) for module in last.modules()}
    found: list[nn.Module] = []
    is_past = False
    own_name = first_name(model, last)
    for name, module in model.named_modules():
        is_ancestor = name == "" or own_name.startswith(f"{name}.")
        if (not is_past or id(module) in inside) and not is_ancestor:
            found.append(module)
        is_past = is_past or module is last
    return found


def _after(model: nn.Module, down_to: str) -> list[nn.Module]:
    first = resolve(model, down_to)
    modules = list(model.modules())
    return modules[next(at for at, module in enumerate(modules) if module is first) :]


def _held_by_ancestors(model: nn.Module, through: str) -> list[nn.Parameter]:
    parts = first_name(model, resolve(model, through)).split(".")
    ancestors = [model, *(model.get_submodule(".".join(parts[:at])) for at in range(1, len(parts)))]
    return [parameter for module in ancestors for parameter in module.parameters(recurse=False)]


def _wholly_frozen(model: nn.Module) -> list[nn.Module]:
    """Modules whose parameters are all frozen: containers of frozen layers, and layers frozen by parameter."""
    found: list[nn.Module] = []
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            found += list(module.modules())
    return found


def _parameters_of(model: nn.Module, parameters: Iterable[nn.Parameter] | None) -> list[nn.Parameter]:
    given = list(parameters or ())
    known = {id(parameter) for parameter in model.parameters()}
    for parameter in given:
        if id(parameter) not in known:
            shape = getattr(parameter, "shape", None)  # whatever was passed
            shown = f"a parameter of shape {tuple(shape)}" if shape is not None else f"a {type(parameter).__name__}"
            raise _foreign(model, shown, "parameters")
    return given


def _names(model: nn.Module) -> list[str]:
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    return modules + [name for name, _ in model.named_parameters(remove_duplicate=False)]


def _foreign(model: nn.Module, received: str, where: str) -> LayerNotFound:
    return LayerNotFound(
        what=f"{received[0].upper()}{received[1:]} is not part of the model.",
        where=f"freeze(model, {where}=...)",
        received=f"{received} that is not in this {type(model).__name__}",
        do="pass modules and parameters of this very model, for example model.get_submodule(name).",
    )


def _state(model: nn.Module) -> tuple[dict[str, bool], dict[str, bool]]:
    kept = {name: _is_kept(module) for name, module in model.named_modules()}
    return kept, {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _summary(
    model: nn.Module, before: tuple[dict[str, bool], dict[str, bool]], notes: tuple[str, ...]
) -> FreezeSummary:  # fmt: skip
    kept, trains = _state(model)
    return FreezeSummary(
        layers=tuple(name for name in kept if name and kept[name] != before[0][name]),
        parameters=tuple(name for name in trains if trains[name] != before[1][name]),
        num_frozen=sum(p.numel() for p in model.parameters() if not p.requires_grad),
        num_parameters=sum(p.numel() for p in model.parameters()),
        notes=notes,
    )
