"""Layouts that shapes and names leave open: each that fits is a way of its own, and a run decides, or an error asks.

Legend: H heads, D numbers of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts import keras
from frostline.porting.layouts.layout import SAME, TRANSPOSED, Layout
from frostline.porting.layouts.tensorflow import NO_FORGET_BIAS
from frostline.porting.layouts.torch import CONV1D
from frostline.porting.readers.gguf import SHIFTED
from frostline.porting.units.unit import is_layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from frostline.porting.layouts.layout import Move
    from frostline.porting.plan.steps import Step
    from frostline.porting.readers.contract import Source

# Names under which query, key and value stand one after the other: in PyTorch, timm, and what came of them.
_IN_ORDER = ("in_proj", "qkv", "to_qkv", "c_attn", "Wqkv", "qkv_proj")
# Leaves of Flax that Keras has not.
_OF_FLAX = ("scale", "mean", "var", "embedding", "negative_slope")


@dataclass(frozen=True)
class Habits:
    """What a file as a whole shows about its layouts.

    Attributes:
        is_undecided: Whether its words are those of Flax and of Keras, which differ in transposed convolutions.
        has_turned: Whether some layer with a name of GPT-2 fits only as (in, out).
        has_straight: Whether some fits only as (out, in).
        has_shifted: Whether scales of norms are one more than Gemma's own modules have them.
    """

    is_undecided: bool = False
    has_turned: bool = False
    has_straight: bool = False
    has_shifted: bool = False


def habits(source: Source, table: Mapping[str, Mapping[str, Sequence[Move]]]) -> Habits:
    """What the layers tell that fit in one way only.

    Args:
        source: The file.
        table: The moves of each pair that fits.
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
    return Habits(is_undecided, (TRANSPOSED,) in found, (SAME,) in found, SHIFTED in source.notes)


def ways(step: Step, model: nn.Module, framework: str, known: Habits) -> tuple[Step, ...]:
    """The step in every layout that its tensors may have.

    Args:
        step: As the rules of its framework have it.
        model: The module.
        framework: Of the file.
        known: About the file.
    """
    module = step.target.module
    if "kernel_of_state" in step.source.leaves:
        bare = tuple(NO_FORGET_BIAS if move.target == "bias_hh" else move for move in step.moves)
        return replace(step, assumed="forget bias"), replace(step, moves=bare)
    if known.has_shifted and not is_layer(module) and step.source.name.endswith("norm"):
        return (step, replace(step, moves=tuple(replace(move, layouts=(_LESS_ONE,)) for move in step.moves)))
    if known.is_undecided and isinstance(module, nn.modules.conv._ConvTransposeNd):
        other = keras.moves(step.source, step.target)
        return (step,) if other is None else (step, replace(step, moves=other))
    if isinstance(model.get_submodule(step.target.owner), nn.MultiheadAttention):
        return _packed(step, model)
    if framework in ("torch", "numpy") and isinstance(module, nn.Linear) and _is_conv1d(step.source.name):
        return _square(step, known)
    return (step,)


_LESS_ONE = Layout("one less, as Gemma's modules add it", lambda tensor: tensor - 1, lambda tensor: tensor + 1, 1e-6)


def _is_conv1d(name: str) -> bool:
    return name.rpartition("/")[2].rpartition(".")[2] in CONV1D


def _square(step: Step, known: Habits) -> tuple[Step, ...]:
    """A square matrix of a layer whose name is that of GPT-2, which keeps (in, out), and of those who rewrote it."""
    rows, columns = step.target.tensors["weight"].shape
    if rows != columns or not any(move.target == "weight" and move.layouts == (SAME,) for move in step.moves):
        return (step,)
    turned = replace(step, moves=_with(step, "weight", TRANSPOSED))
    if known.has_turned == known.has_straight:
        return (step, turned)
    return (turned,) if known.has_turned else (step,)


def _packed(step: Step, model: nn.Module) -> tuple[Step, ...]:
    """Query, key and value in one matrix: in this order, or head by head, as GPT-NeoX and BLOOM have them."""
    attention = model.get_submodule(step.target.owner)
    own = [move for move in step.moves if move.target in ("weight", "bias", "in_proj_weight", "in_proj_bias")]
    whole = [move for move in own if len(move.sources) == 1 and step.target.tensors[move.target].shape[0] % 3 == 0]
    is_packed = step.target.name.rpartition(".")[2] == "in_proj"
    if not isinstance(attention, nn.MultiheadAttention) or not is_packed or not whole:
        return (step,)
    if step.source.name.rpartition("/")[2].rpartition(".")[2] in _IN_ORDER:
        return (step,)
    count = attention.num_heads
    layouts = [_by_heads((count, 3, -1)), _by_heads((count, -1, 3))]
    return (step, *(replace(step, moves=_then(step.moves, whole, layout)) for layout in layouts))


def _then(moves: Sequence[Move], those: Sequence[Move], layout: Layout) -> tuple[Move, ...]:
    return tuple(
        replace(move, layouts=tuple(own.then(layout) for own in move.layouts)) if move in those else move
        for move in moves
    )


def _by_heads(axes: tuple[int, ...]) -> Layout:
    """Rows (H, 3, D) or (H, D, 3) to (3, H, D)."""
    order = (1, 0, 2) if axes[1] == 3 else (2, 0, 1)
    name = "(heads, 3, d) to (3, heads, d)" if axes[1] == 3 else "(heads, d, 3) to (3, heads, d)"

    def forward(tensor: Tensor) -> Tensor:
        split = tensor.reshape(*axes, *tensor.shape[1:])
        return split.permute(*order, *range(3, split.ndim)).reshape(tensor.shape)

    def inverse(tensor: Tensor) -> Tensor:
        size = tensor.shape[0] // 3 // axes[0]
        split = tensor.reshape(3, axes[0], size, *tensor.shape[1:])
        back = [order.index(axis) for axis in range(3)]
        return split.permute(*back, *range(3, split.ndim)).reshape(tensor.shape)

    return Layout(name, forward, inverse)


def _with(step: Step, own: str, layout: Layout) -> tuple[Move, ...]:
    return tuple(replace(move, layouts=(layout,)) if move.target == own else move for move in step.moves)
