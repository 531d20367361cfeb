"""Take the lower layers of another network, or of a checkpoint, into this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from frostline.core.errors import DataError, LayerNotFound, nearest
from frostline.core.layers import check_initialized, first_name, resolve, unwrapped
from frostline.core.records import ReuseSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KEYS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params", "module",
         "teacher", "state_dict_ema", "model_ema", "params_ema", "ema")  # fmt: skip
_PREFIXES = ("_orig_mod.", "module.", "model.", "net.", "network.", "backbone.", "encoder.", "teacher.")


def reuse(
    source: nn.Module | str | Path,
    target: nn.Module,
    *,
    through: str | None = None,
    names: Iterable[str] | None = None,
    key: str | None = None,
    prefix: str | None = None,
) -> ReuseSummary:
    """Copy the lower layers of `source` into `target`, by name and shape.

    Args:
        source: A module, or the path of a safetensors file or of a torch file (tensors only: no code is run).
        target: The model that takes them, changed in place; nothing is changed if an error is raised.
        through: A layer of `target`: only what is registered up to and including it is copied. None: everything.
        names: Copy exactly these tensors of the range.
        key: The entry of the file that holds the weights; None looks under the usual names (`state_dict`, `model`,
            `model_ema`, ...).
        prefix: What the source's names begin with and the target's do not; None takes off the usual ones
            (`module.`, `_orig_mod.`, `backbone.`, ...) where more tensors fit without.

    Returns:
        What was copied, what the source does not have, and what did not fit. A tensor of another shape is listed,
        never cropped; a tensor of another dtype is converted.

    Raises:
        LayerNotFound: If `through` or a name is not in the target, or nothing could be copied.
        DataError: If the file cannot be read.
    """
    notes: list[str] = []
    target, around = unwrapped(target)
    check_initialized(target, "reuse(source, target)")
    notes += [f"into the model inside of {wrapper}" for wrapper in around]
    values = _values(source, key, notes)
    wanted = _range(target, through)
    values = _hooked(target, _stripped(values, wanted, prefix, notes))
    if names is not None:
        wanted = _named(wanted, list(names))
    copied = [name for name in wanted if name in values and values[name].shape == wanted[name].shape]
    skipped = [
        f"{name}: {tuple(values[name].shape)} -> {tuple(wanted[name].shape)}"
        for name in wanted
        if name in values and values[name].shape != wanted[name].shape
    ]
    weights = {name for name, _ in target.named_parameters(remove_duplicate=False)}
    counted = weights.intersection(copied) if weights.intersection(wanted) else copied
    if not counted or all(name.endswith("num_batches_tracked") for name in copied):
        raise LayerNotFound(
            what="Nothing could be reused: no weight of the source fits the target by name and shape.",
            where=str(source) if isinstance(source, (str, Path)) else type(source).__name__,
            received=f"{len(values)} tensors, such as {nearest(next(iter(wanted), ''), values)}",
            do=f"give the source's own start of its names, prefix=..., or pass the part of the target that it is for, "
            f"target.get_submodule(name); the target has {nearest('', wanted)}.",
        )
    with torch.no_grad():
        for name in copied:
            wanted[name].copy_(values[name])
    return ReuseSummary(
        tuple(copied), tuple(name for name in wanted if name not in values), tuple(skipped), tuple(notes)
    )


def _range(target: nn.Module, through: str | None) -> dict[str, Tensor]:
    found = cast("dict[str, Any]", target.state_dict(keep_vars=True))
    state = {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    if through is None:
        return state
    last = resolve(target, through)
    through = first_name(target, last)
    inside = [f"{name}." for name, module in target.named_modules() if any(module is part for part in last.modules())]
    modules = [name for name, _ in target.named_modules()]
    upto = {f"{name}." if name else "" for name in modules[: modules.index(through) + 1]}
    kept = upto | set(inside)
    return {name: tensor for name, tensor in state.items() if _owner(name) in kept}


def _owner(name: str) -> str:
    head, dot, _ = name.rpartition(".")
    return f"{head}{dot}"


def _named(wanted: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    for name in names:
        if name not in wanted:
            raise LayerNotFound(
                what=f"The target has no tensor named {name!r} in this range.",
                where="reuse(source, target, names=...)",
                received=repr(name),
                do=f"use names from target.state_dict(), for example {nearest(name, wanted)}.",
            )
    return {name: wanted[name] for name in names}


def _stripped(
    values: Mapping[str, Tensor], wanted: Mapping[str, Tensor], prefix: str | None, notes: list[str]
) -> dict[str, Tensor]:  # fmt: skip
    """The source's tensors without what wrappers put before their names, taken off while more of them fit."""
    found = dict(values)
    if prefix is not None:
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
        notes.append(f"prefix {prefix!r} taken off {len(found)} names")
        return found
    if any("_orig_mod." in name for name in found):
        found = {name.replace("_orig_mod.", ""): tensor for name, tensor in found.items()}
        notes.append("'_orig_mod.' of torch.compile taken out of the names")
    for _ in range(4):  # wrappers in wrappers
        fits = len(wanted.keys() & found.keys())
        tries = {p: {n.removeprefix(p): t for n, t in found.items() if n.startswith(p)} for p in _PREFIXES}
        best = max(tries, key=lambda p: (len(wanted.keys() & tries[p].keys()), len(tries[p])))
        is_whole = fits == 0 and len(tries[best]) > len(found) // 2 and not wanted.keys() & tries[best].keys()
        if len(wanted.keys() & tries[best].keys()) <= fits and not is_whole:
            break
        found = tries[best]
        notes.append(f"prefix {best!r} taken off {len(found)} names")
    return found


def _hooked(target: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as the target's own load hooks rename them: weight norm of an older kind, for example."""
    for name, module in target.named_modules():
        for hook in module._load_state_dict_pre_hooks.values():
            hook(values, f"{name}." if name else "", {}, False, [], [], [])
    return values


def _values(source: nn.Module | str | Path, key: str | None, notes: list[str]) -> Mapping[str, Tensor]:
    if isinstance(source, nn.Module):
        inner, around = unwrapped(source)
        check_initialized(inner, "reuse(source, target)")
        notes += [f"from the model inside of {wrapper}" for wrapper in around]
        return {name: tensor for name, tensor in inner.state_dict().items() if isinstance(tensor, Tensor)}
    path = Path(source)
    try:
        loaded: Any = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise _unreadable(
            path, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    if key is not None:
        if not isinstance(loaded, dict) or not isinstance(loaded.get(key), dict):
            known = (
                [str(name) for name, part in loaded.items() if isinstance(part, dict)]
                if isinstance(loaded, dict)
                else []
            )
            raise DataError(
                what=f"The file has no weights under {key!r}.", where=str(path), received=repr(key),
                do=f"pass key= one of {nearest(key, known) or 'nothing: the file is flat'}.",
            )  # fmt: skip
        loaded = loaded[key]
    while isinstance(loaded, dict):
        held = [name for name in _KEYS if isinstance(loaded.get(name), dict)]
        if not held:
            break
        others = f"; the file also holds {', '.join(map(repr, held[1:]))} (key=...)" if held[1:] else ""
        notes.append(f"weights taken from {held[0]!r}{others}")
        loaded = loaded[held[0]]
    if not isinstance(loaded, dict):
        raise _unreadable(path, f"a {type(loaded).__name__} instead of named tensors")
    found = cast("dict[str, Any]", loaded)
    return {str(k): v for k, v in found.items() if isinstance(v, Tensor)}


def _load_torch(path: Path) -> Any:
    from pickle import UnpicklingError

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError("the file holds more than tensors, and running its code is not safe") from error


def _unreadable(path: Path, received: str) -> DataError:
    return DataError(
        what="Cannot read weights from this file.",
        where=str(path),
        received=received,
        do="pass a safetensors file, or a torch file that holds a state_dict of tensors only.",
    )
