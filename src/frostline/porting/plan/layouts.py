"""Layouts that shapes and names do not decide.

The plan has one step for each layout that fits; a run decides between them, or an error lists them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.core.layers import submodule
from frostline.porting.layouts import keras, normed, onnx, packed, paddle, rotary
from frostline.porting.layouts.choice import CHANNELS_LAST
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Layout, map_last
from frostline.porting.layouts.tensorflow import NO_FORGET_BIAS
from frostline.porting.layouts.torch import CONV1D
from frostline.porting.readers.gguf import SHIFTED
from frostline.porting.units.forms import projections
from frostline.porting.units.unit import is_layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from frostline.porting.graphs.packed_rows import PackedRows
    from frostline.porting.layouts.layout import Move
    from frostline.porting.plan.step import Step
    from frostline.porting.readers.contract import Source

_NAMED = 0.5  # the margin of an order of query, key and value that the name of their layer implies
# Names in Meta's own files of Llama, and of them the layers of queries and keys.
_OF_META = {"tok_embeddings", "feed_forward", "wq", "wk"}
_QUERY_AND_KEY = ("wq", "wk")
_WITH_KERNELS = (nn.modules.conv._ConvNd, nn.Linear)
# Networks of JAX name a layer `qkv` with (heads, 3, numbers) as well as with (3, heads, numbers).
_FREE_ORDERS = ("flax", "haiku")
# Leaves that Flax has and Keras has not.
_OF_FLAX = ("scale", "mean", "var", "embedding", "negative_slope")


@dataclass(frozen=True)
class LayoutEvidence:
    """The evidence of a whole file about its layouts.

    Attributes:
        is_undecided: Whether Flax or Keras may have written the file; they differ in transposed convolutions.
        has_in_out: Whether a layer with a name of GPT-2 fits only as (in, out).
        has_out_in: Whether a layer with a name of GPT-2 fits only as (out, in).
        has_shifted_scales: Whether scales of norms are larger by one than in Gemma's own modules.
        is_of_meta: Whether names of layers are those of Meta's own Llama files, whose rows lie in rotary pairs.
        transposed: Layouts of the transposed convolutions of Flax whose numbers of channels allow one layout only.
        has_orders: Whether names of layers are evidence of the order of query, key and value in one matrix.
        rows: The order in which the module reads such a matrix, as runs show it; None if the module was not run.
    """

    is_undecided: bool = False
    has_in_out: bool = False
    has_out_in: bool = False
    has_shifted_scales: bool = False
    is_of_meta: bool = False
    transposed: frozenset[str] = frozenset()
    has_orders: bool = True
    rows: PackedRows | None = None


def layout_evidence(source: Source, table: Mapping[str, Mapping[str, Sequence[Move]]]) -> LayoutEvidence:
    """The evidence of the layers that fit in one layout only.

    Args:
        source: The file.
        table: By unit and layer: the moves of each pair that fits.
    """
    is_undecided = source.framework == "flax" and source.format == "NumPy arrays" and not any(
        tensor.leaf in _OF_FLAX for tensor in source.tensors)  # fmt: skip
    shapes = {tensor.unit: tensor.shape for tensor in source.tensors if tensor.leaf == "weight"}
    found = {
        move.layouts
        for name, row in table.items()
        for moves in row.values()
        for move in moves
        if move.target == "weight" and _is_conv1d(name) and len(set(shapes.get(name, ()))) == 2
    }
    kernels = {tensor.unit: tensor.shape for tensor in source.tensors if tensor.leaf == "kernel"}
    transposed = frozenset(
        move.text()
        for name, row in table.items()
        for moves in row.values()
        for move in moves
        if move.target == "weight" and len(set(kernels.get(name, ())[-2:])) == 2
    )
    parts = {part for tensor in source.tensors for part in tensor.unit.split("/")}
    return LayoutEvidence(
        is_undecided, (TRANSPOSED,) in found, (SAME,) in found, SHIFTED in source.notes, parts >= _OF_META, transposed
    )


def ways(step: Step, model: nn.Module, evidence: LayoutEvidence) -> tuple[Step, ...]:
    """The possible steps of a pair, by the layouts that its tensors may have.

    The kinds of open layouts below give their steps, or nothing for a pair that is not of their kind.

    Args:
        step: The step with the layouts of its framework.
        model: The module.
        evidence: The evidence of the whole file.
    """
    return (
        _stacked(step)
        or _in_pairs(step, model, evidence)
        or _with_forget_bias(step)
        or _with_assumption(step)
        or _shifted(step, evidence)
        or _transposed(step, evidence)
        or _multiplied(step)
        or _over_cubes(step)
        or _packed(step, model, evidence)
        or _square(step, evidence)
        or (step,)
    )


def _stacked(step: Step) -> tuple[Step, ...]:
    """A layer of a stack that may lie along either axis; all stacks of a file lie along the same."""
    second = step.source.along_second
    if second is None:
        return ()
    found = {"stacked along axis 0": replace(step.source, along_second=None), "stacked along axis 1": second}
    return tuple(replace(step, source=one, order=name, moves=_then(step.moves, _named(name)))
                 for name, one in found.items())  # fmt: skip


def _in_pairs(step: Step, model: nn.Module, evidence: LayoutEvidence) -> tuple[Step, ...]:
    """A query or key whose rows lie in rotary pairs: as it is, and as halves of a head, which transformers rotates."""
    source, owner = step.source, submodule(model, step.target.owner.rpartition(".")[0])
    ours = source.name.rpartition("/")[2]
    if rotary.is_paired(source):
        found = [rotary.moves(source, step.target, rotary.HALVES)]
    elif evidence.is_of_meta and ours in _QUERY_AND_KEY and step.target.name.rpartition(".")[2] != ours:
        rows = step.target.tensors["weight"].shape[0]
        size = getattr(owner, "head_dim", None)
        counts = [rows // size] if isinstance(size, int) and size > 0 else range(1, rows // 2 + 1)
        layouts = [layout for count in counts if (layout := rotary.halves(count, rows)) is not None]
        found = [_then(step.moves, layout) for layout in layouts]
    else:
        return ()
    turned = tuple(replace(step, order=moves[0].text(), moves=moves) for moves in found if moves is not None)
    if len(turned) == 1 and type(owner).__module__.startswith("transformers.models."):
        return (replace(turned[0], order=""),)
    return (replace(step, order=rotary.NEIGHBOURS), *turned)


def _with_forget_bias(step: Step) -> tuple[Step, ...]:
    """A cell of TensorFlow 1 with the forget bias of 1 that its code adds by default, and without."""
    if "kernel_of_state" not in step.source.leaves or step.source.framework == "haiku":  # Haiku always adds the bias
        return ()
    bare = tuple(NO_FORGET_BIAS if move.target == "bias_hh" else move for move in step.moves)
    return replace(step, assumed="forget bias"), replace(step, moves=bare)


def _with_assumption(step: Step) -> tuple[Step, ...]:
    """A layer under a norm of weights whose axis or number of steps the file does not state."""
    source = step.source
    if normed.is_of_flax(source):
        return (replace(step, assumed=normed.assumed_of(source)),)
    assumed = paddle.assumed_of(source)
    return (replace(step, assumed=assumed),) if assumed else ()


def _shifted(step: Step, evidence: LayoutEvidence) -> tuple[Step, ...]:
    """A scale of Gemma in a module of one's own, which may add one to it."""
    is_scale = not is_layer(step.target.module) and step.source.name.endswith("norm")
    if not evidence.has_shifted_scales or not is_scale:
        return ()
    return (step, replace(step, moves=tuple(replace(move, layouts=(_LESS_ONE,)) for move in step.moves)))


def _multiplied(step: Step) -> tuple[Step, ...]:
    """A product whose alpha and beta are in its weights, and as it is, for a module that multiplies by them."""
    is_product = step.source.framework == "onnx" and step.source.kind == "Gemm"
    moves = onnx.multiplied(step.source, step.moves) if is_product else step.moves
    if moves == step.moves:
        return ()
    return (replace(step, order="alpha and beta multiplied in", moves=moves), replace(step, order="as they are"))


def _transposed(step: Step, evidence: LayoutEvidence) -> tuple[Step, ...]:
    """A transposed convolution of Flax, whose `transpose_kernel` no file states; a kernel of other sizes shows it."""
    if step.source.framework != "flax" or not isinstance(step.target.module, nn.modules.conv._ConvTransposeNd):
        return ()
    other = keras.moves(step.source, step.target)
    if other is None or other == step.moves:
        return ()
    both = (step, replace(step, moves=other))
    shown = [one for one in both if any(move.text() in evidence.transposed for move in one.moves)]
    return tuple(shown) if len(shown) == 1 and not evidence.is_undecided else both


def _over_cubes(step: Step) -> tuple[Step, ...]:
    """A tensor over maps with as many rows and columns as channels: as it is, and with channels first."""
    if step.source.framework not in CHANNELS_LAST or isinstance(step.target.module, _WITH_KERNELS):
        return ()
    moves = tuple(replace(move, layouts=(map_last(len(shape) - 1),)) if len(shape := _shape(step, move)) > 2
                  and len(set(shape)) == 1 and move.layouts == (SAME,) else move for move in step.moves)  # fmt: skip
    return (step, replace(step, moves=moves)) if moves != step.moves else ()


def _shape(step: Step, move: Move) -> tuple[int, ...]:
    return tuple(step.target.tensors[move.target].shape)


_LESS_ONE = Layout("one less, as Gemma's modules add it", lambda tensor: tensor - 1, lambda tensor: tensor + 1, 1e-6)


def _is_conv1d(name: str) -> bool:
    return name.rpartition("/")[2].rpartition(".")[2] in CONV1D


def _square(step: Step, evidence: LayoutEvidence) -> tuple[Step, ...]:
    """A square matrix of a layer with a name of GPT-2: (in, out), or (out, in) in rewritten models."""
    is_linear = step.source.framework in ("torch", "numpy") and isinstance(step.target.module, nn.Linear)
    if not is_linear or not _is_conv1d(step.source.name):
        return ()
    rows, columns = step.target.tensors["weight"].shape
    if rows != columns or not any(move.target == "weight" and move.layouts == (SAME,) for move in step.moves):
        return ()
    transposed = replace(step, moves=_with(step, "weight", TRANSPOSED))
    if evidence.has_in_out == evidence.has_out_in:
        return (step, transposed)
    return (transposed,) if evidence.has_in_out else (step,)


def _packed(step: Step, model: nn.Module, evidence: LayoutEvidence) -> tuple[Step, ...]:
    """A layer with query, key and value in one matrix, by their order."""
    source, target = step.source, step.target
    attention = submodule(model, target.owner)
    whole = source.packed.whole.name if source.packed else source.name
    if isinstance(attention, nn.MultiheadAttention):
        is_packed = target.name.rpartition(".")[2] == "in_proj" and not source.parts
        sizes = (attention.embed_dim,) * 3 if is_packed else ()
        heads = {attention.num_heads}
    elif source.packed is not None:
        sizes, heads = source.packed.sizes, _heads(model, target.owner, source.packed.sizes)
    else:
        is_joined = source.parts and isinstance(target.module, nn.Linear) and "weight" in target.tensors
        sizes = _sizes(step) if is_joined else ()
        whole, heads = target.name, _heads(model, target.owner, sizes)
    if not sizes:
        return ()
    found = packed.orders(sizes, sorted(heads))
    shown = evidence.rows.order(target.name, sizes, found) if source.parts and evidence.rows is not None else ""
    if shown:
        determined = replace(step, reason=f"{step.reason}; rows {shown}, as runs of the module show")
        return (replace(_in_order(determined, shown, found[shown]), order=""),)
    if evidence.has_orders and packed.is_in_order(whole) and source.framework not in _FREE_ORDERS:
        reason = f"{step.reason}; query, key and value in this order in {whole!r}, as such names mean"
        return (replace(step, reason=reason, margin=min(step.margin, _NAMED)),)
    return tuple(_in_order(step, name, rows) for name, rows in found.items())


def _sizes(step: Step) -> tuple[int, ...]:
    """The number of rows of each of several layers in the one layer that they become."""
    largest = [max(math.prod(one.shape) for one in part.leaves.values()) for part in step.source.parts.values()]
    rows = step.target.tensors["weight"].shape[0]
    return tuple(size * rows // sum(largest) for size in largest)


def _heads(model: nn.Module, owner: str, sizes: Sequence[int]) -> set[int]:
    """The possible numbers of heads of an attention: those that its module states, else every divisor of its sizes."""
    around = [submodule(model, owner.rpartition(".")[0]), submodule(model, owner)]
    stated = {value for one in around for name, value in vars(one).items()
              if isinstance(value, int) and not isinstance(value, bool) and "head" in name and value > 0}  # fmt: skip
    least = min(sizes, default=0)
    return stated or {count for count in range(1, least + 1) if least % count == 0}


def _in_order(step: Step, name: str, rows: Tensor) -> Step:
    """The step for rows of the packed matrix in this order."""
    if step.source.packed is not None:
        own = replace(step, source=projections.select_rows(step.source, rows), order=name)
        return own if name == packed.IN_ORDER else replace(own, moves=_then(step.moves, _named(f"of rows {name}")))
    if name == packed.IN_ORDER:
        return replace(step, order=name)
    if step.source.parts:
        made = tuple(replace(move, whole=packed.to_packed(name, rows)) if move.sources else move for move in step.moves)
        return replace(step, order=name, moves=made)
    return replace(step, order=name, moves=_then(step.moves, packed.from_packed(name, rows)))


def _named(name: str) -> Layout:
    return Layout(name, lambda tensor: tensor, lambda tensor: tensor)


def _then(moves: Sequence[Move], layout: Layout) -> tuple[Move, ...]:
    return tuple(
        replace(move, layouts=tuple(own.then(layout) for own in move.layouts)) if move.sources else move
        for move in moves
    )


def _with(step: Step, own: str, layout: Layout) -> tuple[Move, ...]:
    return tuple(replace(move, layouts=(layout,)) if move.target == own else move for move in step.moves)
