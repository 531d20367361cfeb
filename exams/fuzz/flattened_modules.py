"""Networks that flatten maps, as someone may write them in PyTorch.

Channels are first where PyTorch's layers want them, and values are turned now and then, in many spellings. Layers have
the names of the source's, so that only the order of a flatten can go wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flattened_programs import LENGTH, WORDS

if TYPE_CHECKING:
    from .flattened_programs import Node, Program

try:
    from einops import rearrange
except ImportError:  # one spelling fewer
    rearrange = None


@dataclass(frozen=True)
class Value:
    """A value of the module, and whether its channels are last."""

    tensor: Tensor
    is_last: bool


class Module(nn.Module):
    """The same network as someone may write it in PyTorch."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        for index, node in enumerate(program.nodes):
            before, own = program.shapes[node.inputs[0]], node.settings
            layer = _layer(node, before)
            if isinstance(layer, nn.Parameter):
                self.register_parameter(f"n{index}", layer)
            elif layer is not None:
                self.add_module(f"n{index}", layer)
            if own.get("has_places"):
                self.add_module(f"p{index}", nn.Embedding(LENGTH, own["width"]))

    def forward(self, x: Tensor) -> Tensor:
        values = [Value(x, is_last=False)]
        for index, node in enumerate(self.program.nodes):
            layer = getattr(self, f"n{index}", None)
            one, *others = (values[at] for at in node.inputs)
            values.append(_run(node, one, others, layer, getattr(self, f"p{index}", None)))
        return values[-1].tensor


def _layer(node: Node, before: tuple[int, ...]) -> nn.Module | nn.Parameter | None:
    own, width = node.settings, before[-1]
    made = {
        "conv": lambda: nn.Conv2d(width, own["width"], own["size"], padding=own["size"] // 2),
        "conv1d": lambda: nn.Conv1d(width, own["width"], 3, padding=1),
        "norm": lambda: nn.BatchNorm1d(width) if len(before) == 1 else nn.BatchNorm2d(width),
        "layernorm": lambda: nn.LayerNorm(width), "gain": lambda: nn.Parameter(torch.ones(width)),
        "embedding": lambda: nn.Embedding(WORDS, own["width"]), "mixer": lambda: nn.Linear(before[0], before[0]),
        "lstm": lambda: nn.LSTM(width, own["width"], batch_first=True),
    }  # fmt: skip
    if node.kind in ("linear", "square", "pointwise"):
        return nn.Linear(width, own["width"])
    return made[node.kind]() if node.kind in made else None


def _last(value: Value, style: int) -> Tensor:
    x = value.tensor
    if value.is_last:
        return x
    if x.ndim == 3:
        return (x.transpose(1, 2), x.permute(0, 2, 1), x.mT, x.movedim(1, -1), x.swapaxes(-1, 1), x.mT)[style]
    if style == 0 and rearrange is not None:
        return rearrange(x, "b c h w -> b h w c")
    return (x.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1), x.movedim(1, -1), x.transpose(1, 2).transpose(2, 3),
            x.flatten(2).transpose(1, 2).unflatten(1, x.shape[2:]), torch.einsum("bchw->bhwc", x))[style]  # fmt: skip


def _first(value: Value, style: int) -> Tensor:
    x = value.tensor
    if not value.is_last:
        return x
    if x.ndim == 3:
        return (x.transpose(1, 2), x.permute(0, 2, 1), x.mT, x.movedim(-1, 1), x.swapaxes(-1, 1), x.mT)[style]
    return (x.permute(0, 3, 1, 2), x.permute((0, 3, 1, 2)), x.movedim(-1, 1), x.transpose(2, 3).transpose(1, 2),
            torch.moveaxis(x, 3, 1), x.permute(0, -1, 1, 2))[style]  # fmt: skip


def _as_flat(x: Tensor, style: int) -> Tensor:
    x = x.contiguous()
    size = x.shape[1:].numel()
    if style == 0 and rearrange is not None:
        return rearrange(x, "b ... -> b (...)")
    return (x.flatten(1), nn.Flatten()(x), torch.flatten(x, 1), x.reshape(x.shape[0], -1), x.view(-1, size),
            x.reshape(len(x), x.shape[1], -1).reshape(len(x), -1))[style]  # fmt: skip


def _run(node: Node, one: Value, others: list[Value], layer: Any, places: Any) -> Value:
    kind, style, x = node.kind, node.settings["style"], one.tensor
    if kind in ("conv", "conv1d"):
        return Value(layer(_first(one, style)), is_last=False)
    if kind in ("pointwise", "layernorm") or (kind == "lstm"):
        made = layer(_last(one, style) if x.ndim > 2 else x)
        return Value(made[0] if kind == "lstm" else made, is_last=True)
    if kind in ("linear", "square"):
        return Value(layer(x) if style else F.linear(x, layer.weight, layer.bias), is_last=True)
    if kind == "norm":
        return Value(layer(_first(one, style) if x.ndim > 2 else x), is_last=False)
    if kind == "embedding":
        made = layer(x)
        return Value(made + places(torch.arange(LENGTH)) if places is not None else made, is_last=True)
    if kind == "mixer":
        return Value(layer(_first(one, style)), is_last=False)
    if kind in ("add", "concat", "flats"):
        return _merged(kind, one, others[0], style)
    if kind in ("flatten", "maps", "strips", "rows"):
        return _reshaped(node, one, style)
    return _by_element(kind, one, style, mean=bool(node.settings.get("mean")), layer=layer)


def _merged(kind: str, one: Value, other: Value, style: int) -> Value:
    if kind == "flats":
        return Value(torch.cat([one.tensor, other.tensor], 1 if style % 2 else -1), is_last=True)
    if one.tensor.ndim == 2:
        return Value(one.tensor + other.tensor, is_last=True)
    is_last = one.is_last
    second = _last(other, style) if is_last else _first(other, style)
    if kind == "add":
        return Value(one.tensor + second, is_last)
    return Value(torch.cat([one.tensor, second], -1 if is_last else 1), is_last)


def _reshaped(node: Node, one: Value, style: int) -> Value:
    kind, x = node.kind, one.tensor
    if kind == "flatten":
        if node.settings["turn"]:
            x = _first(one, style) if one.is_last else _last(one, style)
        return Value(_as_flat(x, style), is_last=True)
    if kind == "maps":
        side = node.settings["side"]
        if node.settings["turn"]:
            return Value(x.reshape(len(x), side, side, -1), is_last=True)
        return Value(
            x.unflatten(1, (-1, side, side)) if style % 2 else x.reshape(len(x), -1, side, side), is_last=False
        )
    if kind == "rows":
        made = x.flatten(1, 2) if one.is_last else x.flatten(2)
        return Value(made, one.is_last)
    if node.settings["turn"]:
        return Value(_last(one, style).flatten(2), is_last=True)
    return Value(_first(one, style).permute(0, 2, 1, 3).flatten(2), is_last=True)


def _by_element(kind: str, one: Value, style: int, *, mean: bool, layer: Any) -> Value:
    x, last = one.tensor, one.is_last
    channels = -1 if last or x.ndim == 2 else 1
    rows, columns = (1, 2) if last else (2, 3)
    if kind in ("pool", "upsample", "pad", "shuffle"):
        x = _first(one, style)
        pool = F.avg_pool2d if mean else F.max_pool2d
        made = {"pool": lambda: pool(x, 2), "upsample": lambda: F.interpolate(x, scale_factor=2),
                "pad": lambda: F.pad(x, (0, 0, 1, 1)), "shuffle": lambda: F.pixel_shuffle(x, 2)}[kind]()  # fmt: skip
        return Value(made, is_last=False)
    if kind in ("halves", "glu"):
        first, second = x.chunk(2, channels) if style % 2 else x.split(x.shape[channels] // 2, dim=channels)
        return Value(F.glu(x, channels) if kind == "glu" else first * second.tanh(), last)
    if kind == "attention":
        x = _last(one, style)
        made = torch.softmax(x @ x.transpose(1, 2), -1) @ x
        return Value(F.scaled_dot_product_attention(x, x, x, scale=1.0) if style == 1 else made, is_last=True)
    if kind == "heads":
        x = _last(one, style)
        heads = x.reshape(*x.shape[:2], 2, -1).transpose(1, 2).tanh()
        return Value(heads.transpose(1, 2).flatten(2), is_last=True)
    if kind == "turn" and x.ndim > 2:
        return Value(_first(one, style) if last else _last(one, style), not last)
    if kind == "mean":
        axes = tuple(axis for axis in range(1, x.ndim) if axis != channels % x.ndim)
        is_pooled = style == 1 and x.ndim == 4 and not last
        return Value(F.adaptive_avg_pool2d(x, 1).flatten(1) if is_pooled else x.mean(axes), is_last=True)
    made = {
        "activation": lambda: x.relu() + 0.1 * x, "gain": lambda: x * layer,
        "dropout": lambda: F.dropout(x, 0.5, training=False),
        "crelu": lambda: torch.cat([x.relu(), (-x).relu()], channels), "shift": lambda: x * 0.5 + 0.1,
        "turn": lambda: x, "crop": lambda: x.narrow(columns, 1, x.shape[columns] - 1) if style % 2 else
        (x[:, :, 1:] if last else x[..., 1:]), "gate": lambda: x * x.mean((rows, columns), keepdim=True).sigmoid(),
        "first": lambda: x[:, 0] if last else x[:, :, 0], "softmax": lambda: x.softmax(-1),
        "normalize": lambda: F.normalize(x, dim=-1, eps=0.0),
    }[kind]()  # fmt: skip
    return Value(made, last)
