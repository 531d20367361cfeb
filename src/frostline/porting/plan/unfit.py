"""Errors for layers without a partner: in type and shape, in number, or for a known reason."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.plan import idle_layers
from frostline.porting.plan.quantised import refuse_integers_alone
from frostline.porting.plan.unread_tensors import remedy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.assignment.matching import Ambiguity, Pair
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_SHOWN = 6  # names listed in one message
_PAIRS = 3  # layers of the file whose nearest layer is named


def refuse_unfit(path: str, units: Sequence[SourceUnit]) -> None:
    """Refuse layers that have no partner for a known reason.

    Args:
        path: Path of the file.
        units: Layers of the file without a partner.

    Raises:
        PortError: For the first such layer, with the remedy.
    """
    refuse_integers_alone(path, units)
    for unit in units:
        if _is_reset_before(unit):
            raise PortError(
                what=f"nn.GRU cannot represent {unit.name!r}: its reset gate acts before the product with the state.",
                where=path,
                received=f"{unit}: reset_after=False of Keras, linear_before_reset=0 of ONNX, GRUCell of TensorFlow 1, "
                "GRU of Haiku",
                do="use frostline.porting.blocks.ResetBeforeGRU in the module, one for each layer and direction; or "
                "train the network again with a GRU that resets after the product.",
            )  # fmt: skip
        if unit.framework == "haiku" and "dense_h/kernel" in unit.leaves:
            raise PortError(
                what=f"{unit.name!r} is a VanillaRNN of Haiku, whose activation is ReLU.", where=path,
                received=f"{unit}, and no nn.RNN of these sizes with nonlinearity='relu'",
                do="build nn.RNN(..., nonlinearity='relu') with these sizes.",
            )  # fmt: skip
        if any(leaf.startswith("lora_") for leaf in unit.leaves):
            raise PortError(
                what=f"{unit.name!r} has the two matrices of LoRA beside its kernel.", where=path, received=str(unit),
                do="merge them: load the model in Keras and save it as .keras or .weights.h5, which store the sum.",
            )  # fmt: skip
        if _is_unnamed_norm(unit):
            raise PortError(
                what=f"Three vectors of {unit.name!r} may be scale or shift, mean and variance of a norm.",
                where=path, received=f"{unit}, stored by number only",
                do="pass the .keras file or the whole model in .h5, which state whether it is scale or shift.",
            )  # fmt: skip


def _is_reset_before(unit: SourceUnit) -> bool:
    is_onnx = unit.framework == "onnx" and unit.kind == "GRU"
    if (
        "gates_of_state" in unit.leaves
        or {"w_i", "w_h"} <= set(unit.leaves)
        or (is_onnx and not unit.setting("linear_before_reset", 0))
    ):
        return True
    kernel, bias = unit.leaves.get("recurrent_kernel"), unit.leaves.get("bias")
    if kernel is None or len(kernel.shape) != 2 or kernel.shape[1] != 3 * kernel.shape[0]:
        return False
    return unit.setting("reset_after") is False or (bias is not None and len(bias.shape) == 1)


def _is_unnamed_norm(unit: SourceUnit) -> bool:
    shapes = {tensor.shape for tensor in unit.leaves.values()}
    is_unnamed = all(not tensor.leaf for tensor in unit.leaves.values())
    return is_unnamed and len(unit.leaves) == 3 and len(shapes) == 1 and len(next(iter(shapes))) == 1


def no_partner(
    path: str, unused: Sequence[SourceUnit], kept: Sequence[TargetUnit], num_units: int, num_targets: int,
    idle: frozenset[str],
) -> PortError:  # fmt: skip
    """The refusal of layers that fit none of the other side.

    Args:
        path: Path of the file.
        unused: Layers of the file without a partner.
        kept: Layers of the module without one.
        num_units: The number of all layers of the file.
        num_targets: The number of all layers of the module.
        idle: Layers of the module that its run does not use.
    """
    parts: list[str] = []
    if unused:
        parts.append(f"of the file {listed(list(map(str, unused)))}")
    if kept:
        parts.append(f"of the module {listed(list(map(str, kept)))}")
    return PortError(
        what="Some layers have no partner with the same type and shape on the other side.", where=path,
        received=f"{len(unused)} of {num_units} layers of the file, {len(kept)} of {num_targets} of the module: "
        + "; ".join(parts) + _nearest(unused, kept) + idle_layers.note((one.name for one in kept), idle),
        do=remedy(unused, kept) or "build the module like the network of the file; or leave these layers out, such as "
        "a head with other classes: partial=True.",
    )  # fmt: skip


def refuse_counts(path: str, opened: Sequence[Ambiguity], idle: frozenset[str]) -> None:
    """Refuse groups of layers that have another number in the file than in the module.

    Args:
        path: Path of the file.
        opened: Groups of layers that the evidence does not assign.
        idle: Layers of the module that its run does not use.

    Raises:
        PortError: For the first such group.
    """
    excess = idle_layers.in_excess(opened, idle)
    for one in opened:
        if len(one.sources) != len(one.targets):
            raise PortError(
                what="The file and the module have different numbers of layers of the same type and shape.", where=path,
                received=f"{len(one.sources)} in the file ({listed(one.sources)}), {len(one.targets)} in the module "
                f"({listed(one.targets)}){idle_layers.note(one.targets, idle)}",
                do=idle_layers.remedy(excess) if excess else "build the module like the network of the file, with the "
                "same shared weights (head.weight = embedding.weight); or port the layers that both have: partial=True "
                "with hints.",
            )  # fmt: skip


def nothing_written(
    path: str, doubted: Sequence[Pair], unused: Sequence[SourceUnit], kept: Sequence[TargetUnit]
) -> PortError:
    """The refusal of a partial port that would assign no layer.

    Args:
        path: Path of the file.
        doubted: Pairs that agree in type and shape only.
        unused: Layers of the file without a partner, those of doubted pairs too.
        kept: Layers of the module without one, likewise.
    """
    refuse_integers_alone(path, unused)
    received = (
        f"of the file {listed(list(map(str, unused)))}; of the module {listed(list(map(str, kept)))}: no layer "
        "agrees with a layer of the other side in type and shape"
    )
    do = "build the module with layers of the file's types and sizes."
    if doubted:
        pairs = [f"{pair.source!r} and {pair.target!r}" for pair in doubted]
        received = f"{listed(pairs)}: they agree in type and shape, but neither in name nor in place"
        do = f"assign them: hints={ {pair.source: pair.target for pair in doubted[:_SHOWN]} }."
        if len(doubted) == len(unused) == len(kept):
            do = "leave partial=True out: the file and the module have the same layers."
    return PortError(what="This partial port is refused, as nothing would be written.", where=path,
                     received=received, do=do)  # fmt: skip


def _nearest(unused: Sequence[SourceUnit], kept: Sequence[TargetUnit]) -> str:
    """For the first layers of the file, the layer of the module with the most similar sizes and name."""
    if not kept:
        return ""
    pairs = [(unit, max(kept, key=lambda target, unit=unit: _similarity(unit, target))) for unit in unused[:_PAIRS]]
    return "".join(f"; nearest to {unit.name!r}: {target.name!r}" for unit, target in pairs)


def _similarity(unit: SourceUnit, target: TargetUnit) -> float:
    """The share of sizes of axes that both have, and how alike the names are, which counts half as much."""
    ours = Counter(size for tensor in unit.leaves.values() for size in tensor.shape)
    theirs = Counter(size for tensor in target.tensors.values() for size in tensor.shape)
    sizes = (ours & theirs).total() / max(1, (ours | theirs).total())
    return sizes + SequenceMatcher(None, unit.name.lower(), target.name.lower()).ratio() / 2


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first few of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
