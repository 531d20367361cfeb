"""Take the lower layers of another network, or of a checkpoint, into this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from frostline.core.arguments import as_names, as_path, check_model
from frostline.core.errors import DataError, LayerNotFound, nearest
from frostline.core.layers import resolve
from frostline.core.records import ReuseSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def reuse(
    source: nn.Module | str | Path,
    target: nn.Module,
    *,
    through: str | None = None,
    names: Iterable[str] | None = None,
) -> ReuseSummary:
    """Copy the lower layers of `source` into `target`, by name and shape.

    Args:
        source: A module, or the path of a safetensors file or of a torch file (tensors only: no code is run).
        target: The model that takes them, changed in place; nothing is changed if an error is raised.
        through: A layer of `target`: only what is registered up to and including it is copied. None: everything.
        names: Copy exactly these tensors of the range.

    Returns:
        What was copied, what the source does not have, and what did not fit. A tensor of another shape is listed,
        never cropped; a tensor of another dtype is converted.

    Raises:
        LayerNotFound: If `through` or a name is not in the target, or nothing could be copied.
        DataError: If the file cannot be read.
    """
    check_model("reuse", target, needs=("shapes", "training"))
    values = _values(source)
    wanted = _range(target, through)
    if names is not None:
        wanted = _named(wanted, as_names("reuse", "names", names))
    copied = [name for name in wanted if name in values and values[name].shape == wanted[name].shape]
    skipped = [
        f"{name}: {tuple(values[name].shape)} -> {tuple(wanted[name].shape)}"
        for name in wanted
        if name in values and values[name].shape != wanted[name].shape
    ]
    if not copied:
        raise LayerNotFound(
            what="Nothing could be reused: no tensor of the source fits the target by name and shape.",
            where=str(source) if isinstance(source, (str, Path)) else type(source).__name__,
            received=f"{len(values)} tensors, such as {nearest(next(iter(wanted), ''), values)}",
            do=f"rename the source's tensors to the target's names, such as {nearest('', wanted)}.",
        )
    with torch.no_grad():
        for name in copied:
            wanted[name].copy_(values[name])
    return ReuseSummary(tuple(copied), tuple(name for name in wanted if name not in values), tuple(skipped))


def _range(target: nn.Module, through: str | None) -> dict[str, Tensor]:
    state = cast("dict[str, Tensor]", target.state_dict(keep_vars=True))
    if through is None:
        return state
    last = resolve(target, through)
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


def _values(source: nn.Module | str | Path) -> Mapping[str, Tensor]:
    if isinstance(source, nn.Module):
        check_model("reuse", source)
        return source.state_dict()
    path = as_path("reuse", "source", source)
    try:
        loaded: Any = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise _unreadable(
            path, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    for key in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise _unreadable(path, f"a {type(loaded).__name__} instead of named tensors")
    found = cast("dict[str, Any]", loaded)
    return {str(k).removeprefix("module."): v for k, v in found.items() if isinstance(v, Tensor)}


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
