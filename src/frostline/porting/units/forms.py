"""Units of the file as the module needs them: layers that it has in one piece are joined, others are taken apart."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.units import SourceUnit, TargetUnit


# Dense layers of which Flax and hand-written networks make one layer of PyTorch.
_CELLS = (("ii", "if", "ig", "io", "hi", "hf", "hg", "ho"), ("ir", "iz", "in", "hr", "hz", "hn"))
# What the projections of an attention are called below it: Keras, Flax, BERT, and those who write them by hand.
_ATTENTION = (
    *(("query", "key", "value", out) for out in ("attention_output", "output", "out", "dense")),
    ("self/query", "self/key", "self/value", "output/dense"), ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"), ("q", "k", "v", "o"),
)  # fmt: skip
_LEAF_NAMES = ("query", "key", "value", "output")


_RECURRENT = re.compile(r"((?:weight|bias)_(?:ih|hh|hr))_(l\d+(?:_reverse)?)")


def grouped(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> tuple[SourceUnit, ...]:
    """The units that are matched.

    A separable convolution is two layers in PyTorch, the bias of a GRU is two tensors. What a layer of the file
    consists of (the directions of a recurrent layer, the projections of an attention) are units of their own, but for
    attention where the module has any `nn.MultiheadAttention`.

    Args:
        units: Of the file.
        targets: Of the module.
    """
    has_attention = any(isinstance(target.module, nn.MultiheadAttention) for target in targets)
    apart = [one for unit in _with_scales(units) for one in _apart(unit, has_attention=has_attention)]
    for parts in _CELLS:
        apart = _joined(apart, parts)
    for parts in _ATTENTION if has_attention else ():
        apart = _joined(apart, parts, _LEAF_NAMES)
    return tuple(apart)


def is_packed(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> bool:
    """Whether the file has query, key and value of an attention as one matrix, where the module has an attention."""
    wanted = {
        frozenset((target.module.embed_dim, 3 * target.module.embed_dim)) for target in targets
        if isinstance(target.module, nn.MultiheadAttention)
    }  # fmt: skip
    shapes = (tensor.shape for unit in units for tensor in unit.leaves.values())
    return any(len(shape) == 2 and frozenset(shape) in wanted for shape in shapes)


def _apart(unit: SourceUnit, *, has_attention: bool) -> list[SourceUnit]:
    leaves = dict(unit.leaves)
    if unit.kind.startswith("DepthwiseConv") and "kernel" in leaves:  # Keras 3 calls it so in its older format
        leaves["depthwise_kernel"] = leaves.pop("kernel")
        unit = replace(unit, leaves=leaves)
    if unit.framework == "tensorflow":
        leaves = _of_tensorflow(unit.name, leaves)
        unit = replace(unit, leaves=leaves)
    inner = {leaf.rpartition("/")[0] for leaf in leaves}
    if inner - {""} and not (has_attention and "query" in inner):  # the layers of a layer
        made: list[SourceUnit] = []
        for name in dict.fromkeys(leaf.rpartition("/")[0] for leaf in leaves):
            own = {
                leaf.rpartition("/")[2]: tensor for leaf, tensor in leaves.items() if leaf.rpartition("/")[0] == name
            }
            one = replace(unit, name=f"{unit.name}/{name}" if name else unit.name, leaves=own)
            made += _apart(one, has_attention=has_attention)
        return made
    if "pointwise_kernel" in leaves and "depthwise_kernel" in leaves:
        first = {"depthwise_kernel": leaves.pop("depthwise_kernel")}
        rest = {"kernel": leaves.pop("pointwise_kernel"), **leaves}
        return [replace(unit, name=f"{unit.name}/depthwise", leaves=first),
                replace(unit, name=f"{unit.name}/pointwise", leaves=rest)]  # fmt: skip
    if leaves and set(leaves) <= {"in_proj_weight", "in_proj_bias"}:
        packed = {leaf.removeprefix("in_proj_"): tensor for leaf, tensor in leaves.items()}
        return [replace(unit, name=f"{unit.name}/in_proj" if unit.name else "in_proj", leaves=packed)]
    if {"W", "R"} <= set(leaves):
        return _directions(unit)
    by_direction = [(leaf, _RECURRENT.fullmatch(leaf)) for leaf in leaves]
    if leaves and all(found for _, found in by_direction):
        by_layer: dict[str, dict[str, SourceTensor]] = {}
        for leaf, found in by_direction:
            assert found is not None
            by_layer.setdefault(f"{unit.name}/{found[2]}", {})[found[1]] = leaves[leaf]
        return [replace(unit, name=name, leaves=by_layer[name]) for name in sorted(by_layer)]
    bias = leaves.get("bias")
    if bias is not None and "recurrent_kernel" in leaves and len(bias.shape) == 2:
        del leaves["bias"]
        rows = {f"bias[{row}]": part(bias, f"[{row}]", (bias.shape[1],), _row(row)) for row in range(bias.shape[0])}
        return [replace(unit, leaves={**leaves, **rows})]
    return [unit]


_OLD_LEAVES = {"weights": "kernel", "biases": "bias", "depthwise_weights": "depthwise_kernel",
               "pointwise_weights": "pointwise_kernel", "embedding": "embeddings"}  # fmt: skip


def _of_tensorflow(name: str, leaves: dict[str, SourceTensor]) -> dict[str, SourceTensor]:
    """Leaves of TF1 in the words of Keras; the kernel of an LSTM cell as that of its input and that of its state."""
    leaves = {_OLD_LEAVES.get(leaf, leaf): tensor for leaf, tensor in leaves.items()}
    kernel = leaves.get("kernel")
    if not name.endswith("lstm_cell") or kernel is None or len(kernel.shape) != 2 or "recurrent_kernel" in leaves:
        return leaves
    del leaves["kernel"]
    rows, units = kernel.shape[0], kernel.shape[1] // 4
    halves = {"kernel_of_input": (0, rows - units), "kernel_of_state": (rows - units, rows)}
    return leaves | {
        leaf: part(kernel, f"[{start}:{stop}]", (stop - start, kernel.shape[1]), _rows(start, stop))
        for leaf, (start, stop) in halves.items()
    }


def _rows(start: int, stop: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[start:stop]


def _with_scales(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """Caffe's BatchNorm has no scale; the layer behind it that has is part of it."""
    result: list[SourceUnit] = []
    for unit in units:
        before = result[-1] if result else None
        is_scale = unit.framework == "caffe" and "gamma" in unit.leaves and before is not None
        if before is not None and is_scale and _is_scaled_by(before, unit):
            result[-1] = replace(before, leaves={**before.leaves, **unit.leaves})
        else:
            result.append(unit)
    return result


def _is_scaled_by(norm: SourceUnit, scale: SourceUnit) -> bool:
    return (
        set(norm.leaves) == {"mean", "variance"}
        and norm.leaves["mean"].shape == scale.leaves["gamma"].shape
        and (scale.layer is None or norm.name in scale.layer.inputs)
    )


def _directions(unit: SourceUnit) -> list[SourceUnit]:
    """The directions of a recurrent node of ONNX, whose first axis they are; its bias has two halves."""
    made: list[SourceUnit] = []
    for index in range(unit.leaves["W"].shape[0]):
        leaves: dict[str, SourceTensor] = {}
        for leaf, tensor in unit.leaves.items():
            name = f"[{index}]"
            if leaf == "B":
                half = tensor.shape[1] // 2
                leaves["Wb"] = part(tensor, f"{name}[:{half}]", (half,), _slice(index, 0, half))
                leaves["Rb"] = part(tensor, f"{name}[{half}:]", (half,), _slice(index, half, 2 * half))
            else:
                leaves[leaf] = part(tensor, name, tensor.shape[1:], _row(index))
        made.append(replace(unit, name=f"{unit.name}/{('forward', 'backward')[index]}", leaves=leaves))
    return made


def _slice(index: int, start: int, stop: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[index, start:stop]


def part(tensor: SourceTensor, name: str, shape: tuple[int, ...], take: Callable[[Tensor], Tensor]) -> SourceTensor:
    """A part of a source tensor as a tensor of its own; the parts of one tensor must cover it."""
    return replace(tensor, name=f"{tensor.name}{name}", shape=shape, load=lambda: take(tensor.load()))


def _row(index: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[index]


def _joined(units: list[SourceUnit], parts: tuple[str, ...], names: tuple[str, ...] = ()) -> list[SourceUnit]:
    """Units `x/a, x/b, ...` as one unit `x` with leaves `a/kernel, ...`, where all parts are there.

    Args:
        units: Of the file.
        parts: What the units are called below the one that they are joined to.
        names: What their leaves begin with then; None takes `parts`.
    """
    by_parent: dict[str, dict[str, SourceUnit]] = {}
    for unit in units:
        for one in parts:
            if unit.name == one or unit.name.endswith(f"/{one}"):
                by_parent.setdefault(unit.name[: len(unit.name) - len(one)].removesuffix("/"), {})[one] = unit
    whole = {
        parent: found for parent, found in by_parent.items()
        if len(found) == len(parts) and not _has_double(units, parent, found, parts[-1])
    }  # fmt: skip
    owner = {unit.name: parent for parent, found in whole.items() for unit in found.values()}
    result: list[SourceUnit] = []
    made: set[str] = set()
    for unit in units:
        parent = owner.get(unit.name)
        if parent is None:
            result.append(unit)
        elif parent not in made:
            made.add(parent)
            leaves = {
                f"{name}/{leaf}": tensor
                for part_name, name in zip(parts, names or parts, strict=True)
                for leaf, tensor in whole[parent][part_name].leaves.items()
            }
            result.append(replace(unit, name=parent, leaves=leaves))
    return result


def _has_double(units: list[SourceUnit], parent: str, found: Mapping[str, SourceUnit], last: str) -> bool:
    """Whether another unit beside these has the shapes of the last one, and may be what that looks like."""
    shapes = _shapes(found[last])
    inside = {unit.name for unit in found.values()}
    beside = (unit for unit in units if unit.name.rpartition("/")[0] == parent and unit.name not in inside)
    return "/" not in last and any(_shapes(unit) == shapes for unit in beside)


def _shapes(unit: SourceUnit) -> dict[str, tuple[int, ...]]:
    return {leaf: tensor.shape for leaf, tensor in unit.leaves.items()}


def other_forms(unit: SourceUnit) -> Iterator[list[SourceUnit]]:
    """A unit that fits no layer, in the other forms that it may have: tensors of their own, or layers in one stack.

    `nn.scan` of Flax keeps equal layers in one array each, along its first axis.
    """
    leaves = unit.leaves
    if len(leaves) > 1:
        yield [
            replace(unit, name=f"{unit.name}/{leaf}" if unit.name else leaf, leaves={leaf: tensor})
            for leaf, tensor in leaves.items()
        ]
    counts = {tensor.shape[:1] for tensor in leaves.values()}
    if unit.framework == "flax" and len(counts) == 1 and counts != {()}:
        (count,) = counts.pop()
        yield [
            replace(unit, name=f"{unit.name}/{index}", leaves={
                leaf: part(tensor, f"[{index}]", tensor.shape[1:], _row(index)) for leaf, tensor in leaves.items()
            })
            for index in range(count)
        ]  # fmt: skip
