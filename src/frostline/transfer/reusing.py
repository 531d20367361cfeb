"""Take the lower layers of another network, or of a checkpoint, into this one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.core.arguments import as_name, as_names, as_path, check_model
from frostline.core.errors import LayerNotFound, nearest
from frostline.core.layers import check_initialized, first_name, resolve, unwrapped
from frostline.core.records import ReuseSummary
from frostline.transfer.weight_files import read_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WRAPPERS = ("module", "model", "net", "network", "_forward_module", "_module", "pl_module")
_INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # they stand before any layer
_SHARE = 4  # a beginning that fewer than one in so many names have is a part of a network, not a wrapper of it


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
        key: The entry of the file that holds the weights, such as `ema` or `nets.generator`; None looks under the
            usual names (`state_dict`, `model`, `model_ema`, ...).
        prefix: What the source's names begin with and the target's do not; None takes off the beginning without
            which most tensors fit (`module.`, `backbone.`, `model.encoder.`, ...), if a quarter of the names have it.
            What `torch.compile` and FSDP put into names is always taken out.

    Returns:
        What was copied, what the source does not have, and what did not fit. A tensor of another shape is listed,
        never cropped; a tensor of another dtype is converted.

    Raises:
        LayerNotFound: If `through` or a name is not in the target, nothing could be copied, or several parts of the
            source fit as well.
        DataError: If the file cannot be read.
    """
    check_model("reuse", target, needs=())
    key = as_name("reuse", "key", key) if key is not None else None
    prefix = as_name("reuse", "prefix", prefix) if prefix is not None else None
    notes: list[str] = []
    target, around = unwrapped(target)
    check_initialized(target, "reuse(source, target)")
    check_model("reuse", target, needs=("training",))
    notes += [f"into the model inside of {wrapper}" for wrapper in around]
    values = _values(source, key, notes)
    wanted = _range(target, through)
    values = _hooked(target, _stripped(values, _range(target, None), prefix, notes))
    if names is not None:
        wanted = _named(wanted, as_names("reuse", "names", names))
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
    notes += _of_dtypes(wanted, values, copied) + _of_other_forms(wanted, values)
    return ReuseSummary(
        tuple(copied), tuple(name for name in wanted if name not in values), tuple(skipped), tuple(notes)
    )


def _of_dtypes(wanted: Mapping[str, Tensor], values: Mapping[str, Tensor], copied: list[str]) -> list[str]:
    pairs = Counter((values[name].dtype, wanted[name].dtype) for name in copied)
    return [f"{count} tensors converted from {own} to {new}" for (own, new), count in pairs.items() if own != new]


def _of_other_forms(wanted: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> list[str]:
    """Layers that both have, whose weight is stored in another form: as weight norm, or a parametrization."""
    missing = {_layer(name) for name in wanted if name not in values} - {""}
    spare = [name for name in values if name not in wanted]
    layers = sorted(layer for layer in missing if any(_layer(name) == layer for name in spare))
    if not layers:
        return []
    named = ", ".join(layer.removesuffix(".") for layer in layers)
    return [f"{named}: not all was copied, since only one of the two has a weight norm or parametrization there"]


def _layer(name: str) -> str:
    """The layer of a tensor; that of a parametrization is the layer that has it."""
    return _owner(name.split("parametrizations.")[0] + "weight" if "parametrizations." in name else name)


def _range(target: nn.Module, through: str | None) -> dict[str, Tensor]:
    found = target.state_dict(keep_vars=True)
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
    """The source's tensors without what wrappers put before, or into, their names.

    Raises:
        LayerNotFound: If no name begins with the prefix that was given, or several beginnings fit as well.
    """
    found = dict(values)
    for inside in _INSIDE:
        if any(inside in name for name in found):
            found = {name.replace(inside, ""): tensor for name, tensor in found.items()}
            notes.append(f"{inside!r} taken out of the names")
    if prefix is not None:
        start = prefix if prefix.endswith(".") else f"{prefix}."
        if not any(name.startswith(start) for name in found):
            known = {f"{name.split('.')[0]}." for name in found if "." in name}
            raise LayerNotFound(
                what=f"No tensor of the source is named {start!r} at its start.", where="reuse(prefix=...)",
                received=f"{len(found)} tensors, such as {nearest(start, found)}",
                do=f"pass one of {nearest(start, known) or 'no prefix'}.",
            )  # fmt: skip
    else:
        start = _start(found, wanted)
    if start:
        found = {name.removeprefix(start): tensor for name, tensor in found.items() if name.startswith(start)}
        notes.append(f"prefix {start!r} taken off {len(found)} names")
    return found


def _start(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The beginning of names without which most tensors fit by name and shape; where none does, that of wrappers."""
    fits: dict[str, tuple[int, int]] = {"": (0, 0)}
    begin = Counter(name[:at] for name in found for at in _starts(name))
    for name, tensor in found.items():
        for at in _starts(name):
            same = wanted.get(name[at:])
            if same is not None:
                shapes, names = fits.get(name[:at], (0, 0))
                fits[name[:at]] = (shapes + (same.shape == tensor.shape), names + 1)
    likely = {start: fit for start, fit in fits.items() if not start or _SHARE * begin[start] >= len(found)}
    most = max(likely.values())
    if most == (0, 0):  # the target's own hooks may rename the rest
        return max((s for s in begin if _is_wrapper(s) and 2 * begin[s] > len(found)), key=len, default="")
    best = [start for start, fit in likely.items() if fit == most]
    if "" in best:
        return ""
    plain = [start for start in best if _is_wrapper(start)]
    if len(plain) == 1 or len(best) == 1:
        return (plain or best)[0]
    raise LayerNotFound(
        what="Several parts of the source fit the target as well.",
        where="reuse(source, target)",
        received=f"tensors whose names begin with {', '.join(map(repr, best))}",
        do=f"say which: frostline.reuse(source, target, prefix={best[0]!r}).",
    )


def _starts(name: str) -> list[int]:
    """Where a name may begin: at 0 and behind every dot but the last, which ends the name of a layer."""
    return [0, *(at + 1 for at, letter in enumerate(name) if letter == "." and at + 1 < len(name))]


def _is_wrapper(start: str) -> bool:
    return all(part in _WRAPPERS for part in start.removesuffix(".").split("."))


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
        check_model("reuse", inner, needs=("values",))
        notes += [f"from the model inside of {wrapper}" for wrapper in around]
        return {name: tensor for name, tensor in inner.state_dict().items() if isinstance(tensor, Tensor)}
    return read_weights(as_path("reuse", "source", source), key, notes)
