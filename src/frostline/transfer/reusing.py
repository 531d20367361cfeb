"""Take the lower layers of another network, or of a checkpoint, into this one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.core.arguments import as_name, as_names, check_model
from frostline.core.errors import DataError, LayerNotFound, nearest
from frostline.core.layers import check_initialized, first_name, resolve, unwrapped
from frostline.core.records import ReuseSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WRAPPERS = ("module", "model", "net", "network", "_forward_module", "_module", "pl_module")
_INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # they stand before any layer
_SHARE = 4  # a beginning that fewer than one in so many names have is a part of a network, not a wrapper of it


def reuse(
    source: nn.Module | Mapping[str, Tensor],
    target: nn.Module,
    *,
    through: str | None = None,
    names: Iterable[str] | None = None,
    prefix: str | None = None,
    place: str | None = None,
    told: Iterable[str] = (),
) -> ReuseSummary:
    """Copy the lower layers of `source` into `target`, by name and shape: see `recipes/reuse.py`, which reads files.

    Args:
        source: A module, or the tensors of a file by name.
        target: The model that takes them, changed in place; nothing is changed if an error is raised.
        through: A layer of `target`: only what is registered up to and including it is copied. None: everything.
        names: Copy exactly these tensors of the range.
        prefix: What the source's names begin with and the target's do not; None takes off the beginning without
            which most tensors fit.
        place: Where the tensors come from, for errors; None: the class of the module.
        told: Notes on the source that were made before.

    Returns:
        What was copied, what the source does not have, and what did not fit.

    Raises:
        LayerNotFound: If `through` or a name is not in the target, nothing could be copied, or several parts of the
            source fit as well.
        DataError: If a weight that would be copied has no values, NaN or infinite ones, or if the source has different
            values for weights that the target shares.
    """
    check_model("reuse", target, needs=())
    prefix = as_name("reuse", "prefix", prefix) if prefix is not None else None
    notes: list[str] = [*told]
    target, around = unwrapped(target)
    check_initialized(target, "reuse(source, target)")
    check_model("reuse", target, needs=("training",))
    notes += [f"into the model inside of {wrapper}" for wrapper in around]
    values = _values(source, notes)
    wanted = _range(target, through)
    values = _hooked(target, _stripped(_dense(values, notes), _range(target, None), prefix, notes))
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
            where=place or type(source).__name__,
            received=f"{len(values)} tensors, such as {nearest(next(iter(wanted), ''), values)}",
            do=f"pass the beginning of the source's names, prefix=..., or the part of the target that it belongs to, "
            f"target.get_submodule(name); the target has {nearest('', wanted)}.",
        )
    _refuse_without_values({name: values[name] for name in copied}, weights)
    _refuse_two_for_one(wanted, values, copied)
    with torch.no_grad():
        for name in copied:
            wanted[name].copy_(values[name])
    notes += _of_dtypes(wanted, values, copied) + _of_other_forms(wanted, values)
    return ReuseSummary(
        tuple(copied), tuple(name for name in wanted if name not in values), tuple(skipped), tuple(notes)
    )


def _dense(values: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """The tensors in the usual form: sparse and quantised ones hold the same numbers."""
    packed = [name for name, tensor in values.items() if tensor.layout is not torch.strided or tensor.is_quantized]
    if packed:
        notes.append(f"{len(packed)} sparse or quantised tensors unpacked, such as {packed[0]!r}")
    made = {
        name: values[name].dequantize() if values[name].is_quantized else values[name].to_dense() for name in packed
    }
    return {**values, **made}


def _refuse_without_values(copied: Mapping[str, Tensor], weights: set[str]) -> None:
    """Refuse weights that no network can compute with; buffers may be infinite, as masks are.

    Raises:
        DataError: It names them; nothing was copied yet.
    """
    empty = [name for name, tensor in copied.items() if tensor.is_meta]
    if empty:
        raise DataError(
            what=f"The source has names and shapes, and no values: {_shown(empty)}.",
            where="reuse(source, target)", received="tensors on the meta device",
            do="load the weights of the source before they are saved or copied: a module or a file with values.",
        )  # fmt: skip
    broken = [
        name for name, own in copied.items() if bool(own.isnan().any() or (name in weights and own.isinf().any()))
    ]
    if broken:
        raise DataError(
            what=f"Weights of the source are NaN or infinite: {_shown(broken)}.",
            where="reuse(source, target)",
            received=f"{len(broken)} of {len(copied)} tensors that would be copied; the target is unchanged",
            do="take a checkpoint from before the training diverged; or copy the others alone: names=[...].",
        )


def _refuse_two_for_one(wanted: Mapping[str, Tensor], values: Mapping[str, Tensor], copied: list[str]) -> None:
    """Refuse different values for weights that the target shares: the last one would take the place of the others.

    Raises:
        DataError: It names two of them; nothing was copied yet.
    """
    first: dict[tuple[int, torch.Size], str] = {}
    for name in copied:
        other = first.setdefault((wanted[name].data_ptr(), wanted[name].shape), name) if wanted[name].numel() else name
        if other != name and not torch.equal(values[name], values[other].to(values[name])):
            raise DataError(
                what=f"The source has different values for {other!r} and {name!r}, which the target shares.",
                where="reuse(source, target)", received="two tensors for one place in memory; the target is unchanged",
                do="give the two layers weights of their own; or copy one of them alone: names=[...].",
            )  # fmt: skip


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(map(repr, names[:3]))}{more}"


def _of_dtypes(wanted: Mapping[str, Tensor], values: Mapping[str, Tensor], copied: list[str]) -> list[str]:
    pairs = Counter((values[name].dtype, wanted[name].dtype) for name in copied)
    return [f"{count} tensors converted from {own} to {new}" for (own, new), count in pairs.items() if own != new]


def _of_other_forms(wanted: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> list[str]:
    """Layers that both have, whose weight is stored in another form: as weight norm, or a parametrization."""
    missing_names = [name for name in wanted if name not in values]
    missing = {_layer(name) for name in missing_names} - {""}
    spare = [name for name in values if name not in wanted]
    layers = sorted(layer for layer in missing if any(_layer(name) == layer for name in spare))
    if not layers:
        return []
    normed = [
        layer
        for layer in layers
        if any(_is_of_norm(name) for name in (*spare, *missing_names) if _layer(name) == layer)
    ]
    notes: list[str] = []
    if normed:
        named = ", ".join(layer.removesuffix(".") for layer in normed)
        notes.append(
            f"{named}: not all was copied, since only one of the two has a weight norm or parametrization there"
        )
    for layer in (layer for layer in layers if layer not in normed):
        ours = [name.removeprefix(layer) for name in missing_names if _layer(name) == layer]
        theirs = [name.removeprefix(layer) for name in spare if _layer(name) == layer]
        notes.append(
            f"{layer.removesuffix('.')}: {', '.join(ours)} not copied; the source has {', '.join(theirs)} there"
        )
    return notes


def _is_of_norm(name: str) -> bool:
    """True for the two parts of a weight under weight norm, and for parametrized weights."""
    return name.endswith(("weight_g", "weight_v")) or "parametrizations." in name


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
        do=f"name it: frostline.reuse(source, target, prefix={best[0]!r}).",
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


def _values(source: nn.Module | Mapping[str, Tensor], notes: list[str]) -> Mapping[str, Tensor]:
    if not isinstance(source, nn.Module):
        return source
    inner, around = unwrapped(source)
    check_initialized(inner, "reuse(source, target)")
    check_model("reuse", inner, needs=("values",))
    notes += [f"from the model inside of {wrapper}" for wrapper in around]
    return {name: tensor for name, tensor in inner.state_dict().items() if isinstance(tensor, Tensor)}
