"""What a freeze promises: parameters, buffers and modes of the frozen part stay the same, to the bit."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]  # all kinds of it

from frostline.core import inputs as batches
from frostline.core.digests import tensor_digest
from frostline.core.errors import FOREIGN, DataError, FrostlineError
from frostline.core.layers import MODE, is_pinned
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes, kept_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable


FROZEN = "_names_frozen"  # a note that `freeze` leaves on a module for `thaw`: names of the parameters it froze
CHILDREN = "_children_frozen"  # noted on a parent: names of its children that `freeze` holds in inference mode
_NOTES = (FROZEN, MODE, CHILDREN, "train")
_LARGER = 100.0


class FrozenState:
    """Digests of the frozen part, to be compared later.

    Args:
        model: Its frozen parameters are digested, and buffers and modes of the modules that `freeze` holds. These are
            put in inference mode, if their `training` was set by hand.
        is_cached: Features of the frozen part are stored. Else the caller's own `requires_grad_(False)` promises
            nothing: a model may write such weights itself, as one with a momentum encoder does.
    """

    def __init__(self, model: nn.Module, *, is_cached: bool = True) -> None:
        self._model, self._is_cached = model, is_cached
        for module in model.modules():
            if MODE in vars(module):
                module.train(False)
        self._before = _digests(model, is_cached=is_cached)

    def check(self) -> None:
        """Raise if anything of the frozen part moved, changed its mode or was taken away.

        Raises:
            FrostlineError: It names what moved.
        """
        after = _digests(self._model, is_cached=self._is_cached)
        moved = [name for name, digest in self._before.items() if after.get(name) != digest]
        if moved:
            more = f", and {len(moved) - 3} more" if len(moved) > 3 else ""
            raise FrostlineError(
                what="The frozen part changed during training.", where=type(self._model).__name__,
                received=f"{', '.join(moved[:3])}{more}",
                do="look for what writes into frozen layers while fit runs (a loss, clip, scheduler or hook that "
                "calls model.apply, update_bn or load_state_dict), remove it, load the weights again, and train anew.",
            )  # fmt: skip


def check_promise(model: nn.Module, where: str, frozen: Iterable[nn.Module] | None = None) -> None:
    """Raise if a frozen layer rewrites its own weight whenever it runs, so that no freeze can hold.

    Args:
        model: The model.
        where: The call, for the error.
        frozen: The modules that are to be frozen; None: those whose weight takes no gradient.

    Raises:
        DataError: It names the layer.
    """
    chosen = {id(module) for module in frozen} if frozen is not None else None
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or module.max_norm is None:
            continue
        if id(module) in chosen if chosen is not None else not module.weight.requires_grad:
            place = f"model.get_submodule({name!r})"
            raise DataError(
                what=f"The embedding {name!r} cannot be frozen: with max_norm it rewrites its weight when it runs.",
                where=where, received=f"max_norm={module.max_norm}",
                do="scale it once and for all, with the same outputs: with torch.no_grad(): "
                f"{place}.weight.renorm_({module.norm_type}, 0, {module.max_norm}); then {place}.max_norm = None.",
            )  # fmt: skip


def check_still(model: nn.Module, inputs: Any) -> None:
    """Raise if a frozen layer moves its own buffers whenever it runs, in inference mode too, as an observer does.

    Args:
        model: The model; nothing of it changes.
        inputs: A few samples. It runs on them, and on larger ones: an observer of ranges moves by what is new to it.

    Raises:
        DataError: It names the layer.
    """
    held = {name: module for name, module in _held(model).items() if not isinstance(module, _NormBase)}
    owners = [name for name, module in held.items() if any(True for _ in module.buffers(recurse=False))]
    if not owners:
        return
    before = {name: _own_buffers(held[name], name) for name in owners}
    kept = kept_buffers(model), kept_parameters(model), kept_attributes(model, numbers=True)
    with torch.no_grad(), kept_modes(model), kept_generators(), kept[0], kept[1], kept[2]:
        model.train()
        runs: list[dict[str, dict[str, str]]] = []
        for size in (1, _LARGER):
            larger = batches.map_tensors(inputs, lambda x, size=size: x * size if x.is_floating_point() else x)
            with suppress(*(FOREIGN if runs else ())):  # the model may check the range of its inputs
                batches.call(model, larger)
            runs.append({name: _own_buffers(held[name], name) for name in owners})
    moved = {name: [key for key, own in before[name].items() if runs[-1][name].get(key) != own] for name in owners}
    layer = next((name for name in owners if moved[name]), None)
    if layer is not None:
        raise _moves_buffers(layer, type(held[layer]).__name__, moved[layer], only_once=runs[0] == runs[1])


def _moves_buffers(layer: str, kind: str, moved: list[str], *, only_once: bool) -> DataError:
    where, received = f"fit(model), {layer} ({kind})", ", ".join(moved[:3])
    if only_once:  # a table of positions, built in the first call
        return DataError(
            what=f"The frozen layer {layer!r} builds its own buffers in its first call, which has not been made.",
            where=where, received=received,
            do="run the model once on a batch before it is trained: with torch.no_grad(): model(inputs).",
        )  # fmt: skip
    return DataError(
        what=f"The frozen layer {layer!r} changes its own buffers whenever it runs, in inference mode too.",
        where=where, received=received,
        do="stop it: model.apply(torch.ao.quantization.disable_observer) for observers of quantization, "
        "or remove the line of its forward that writes them; or leave that layer trainable.",
    )  # fmt: skip


def check_places(model: nn.Module, where: str) -> None:
    """Raise if a layer was put where a frozen one stood, and would move: as convert_sync_batchnorm does.

    Args:
        model: The model.
        where: The call, for the error.

    Raises:
        DataError: It names the layer.
    """
    for path, parent in model.named_modules():
        if MODE in vars(parent):
            continue  # it holds all that is inside
        for name in vars(parent).get(CHILDREN, ()):
            child = dict(parent.named_children()).get(name)
            if child is None or MODE in vars(child) or next(child.buffers(), None) is None:
                continue
            if any(parameter.requires_grad for parameter in child.parameters()):
                continue  # a new layer, meant to train
            place = f"{path}.{name}" if path else name
            raise DataError(
                what=f"The layer {place!r} was frozen, and has been replaced by one that is not.", where=where,
                received=f"a {type(child).__name__} with buffers that move in training",
                do=f"freeze it as well: frostline.freeze(model, modules=[model.get_submodule({place!r})]); or convert "
                "layers before frostline.freeze.",
            )  # fmt: skip


@contextmanager
def kept_freeze(model: nn.Module) -> Generator[None]:
    """If an error leaves the block, everything is as frozen as it was before."""
    put_back = _freeze_of(model)
    try:
        yield
    except BaseException:
        put_back()
        raise


@contextmanager
def passing_freeze(model: nn.Module) -> Generator[None]:
    """Inside, freeze and thaw as you like; outside, everything is as frozen as it was before, gradients included."""
    put_back = _freeze_of(model)
    try:
        yield
    finally:
        put_back()


def _freeze_of(model: nn.Module) -> Callable[[], None]:
    """A function that puts back what is frozen now."""
    modules = [
        (module, getattr(module, "training", False), {key: vars(module).get(key) for key in _NOTES})
        for module in model.modules()
    ]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]

    def put_back() -> None:
        for module, training, notes in modules:
            module.training = training
            for key, note in notes.items():
                vars(module).pop(key, None)
                if note is not None:
                    vars(module)[key] = note
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad

    return put_back


def _promised(model: nn.Module) -> set[str]:
    """Names of the parameters that `freeze` froze or holds."""
    held, found = _held(model), set[str]()
    for name, module in model.named_modules():
        own = vars(module).get(FROZEN, ())
        own = (leaf for leaf, _ in module.named_parameters(recurse=False)) if name in held else own
        found |= {f"{name}.{leaf}" if name else leaf for leaf in own}
    return found


def _digests(model: nn.Module, *, is_cached: bool) -> dict[str, str]:
    frozen = {name: own for name, own in model.named_parameters() if not own.requires_grad}
    promised = frozen if is_cached else _promised(model)
    found = {f"parameter {name}": tensor_digest(own) for name, own in frozen.items() if name in promised}
    for name, module in _held(model).items():
        found[f"mode of {name or 'the model'}"] = str(getattr(module, "training", False))
        found |= _own_buffers(module, name)
    return found


def _held(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that `freeze` holds in inference mode, with all that is inside of them."""
    pinned = [module for module in model.modules() if is_pinned(module)]
    inside = {id(part) for module in pinned for part in module.modules()}
    return {name: module for name, module in model.named_modules() if id(module) in inside}


def _own_buffers(module: nn.Module, name: str) -> dict[str, str]:
    own = module.named_buffers(prefix=name, recurse=False)
    return {f"buffer {key}": tensor_digest(buffer) for key, buffer in own}
