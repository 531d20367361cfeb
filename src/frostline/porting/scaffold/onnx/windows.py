"""The windows of convolutions and pools, with the padding of ONNX; pools and resizing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.porting.scaffold.onnx.arrangements import padded
from frostline.porting.scaffold.onnx.node import Node, Result
from frostline.porting.scaffold.onnx.values import Numbers, Value
from frostline.porting.scaffold.python_text import literal, short

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Window:
    """The settings that convolutions and pools share, one number for each axis.

    Attributes:
        kernel: The size of the window.
        stride: The stride.
        dilation: The dilation.
        before: The padding before the data.
        after: The padding after the data.
        same: `SAME_UPPER` or `SAME_LOWER` if the padding depends on the size of the data; else empty.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    same: str

    @property
    def axes(self) -> int:
        """The number of axes."""
        return len(self.kernel)

    @property
    def is_symmetric(self) -> bool:
        """Whether the padding is the same on both sides."""
        return not self.same and self.before == self.after

    def options(self) -> str:
        """Stride and dilation as arguments, unless they are 1."""
        pairs = (("stride", self.stride), ("dilation", self.dilation))
        return "".join(f", {name}={short(sizes)}" for name, sizes in pairs if set(sizes) != {1})

    def padding(self) -> str:
        """The padding as an argument, unless it is 0."""
        return f", padding={short(self.before)}" if any(self.before) else ""


def window(node: Node, kernel: tuple[int, ...]) -> Window:
    """The window of a node."""
    ones = [1] * len(kernel)
    stride, dilation = tuple(node.integers("strides", ones)), tuple(node.integers("dilations", ones))
    pads = node.integers("pads", [0] * 2 * len(kernel))
    same = node.choice("auto_pad", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "")
    sizes = {len(kernel), len(stride), len(dilation), len(pads) / 2}
    if len(sizes) > 1 or not kernel or min(kernel) < 1 or min(stride) < 1 or min(pads) < 0:
        node.refuse("the numbers of its kernel, strides, dilations and pads")
    if same != "NOTSET" and same:
        pads = [0] * 2 * len(kernel)
    before, after = tuple(pads[: len(kernel)]), tuple(pads[len(kernel) :])
    found = Window(kernel, stride, dilation, before, after, same if same.startswith("SAME") else "")
    return _unrolled(found)


def _unrolled(one: Window) -> Window:
    """The window with explicit padding if SAME does not depend on the size of the data: with a stride of 1."""
    if not one.same or set(one.stride) != {1}:
        return one
    totals = [(size - 1) * step for size, step in zip(one.kernel, one.dilation, strict=True)]
    small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    before, after = (small, large) if one.same == "SAME_UPPER" else (large, small)
    return Window(one.kernel, one.stride, one.dilation, before, after, "")


def with_padding(node: Node, x: Value, one: Window, value: str = "0") -> Value:
    """The data with padding that an argument of a layer cannot express."""
    if one.same:
        more = f", value={value}" if value != "0" else ""
        more += ", at_start=True" if one.same == "SAME_LOWER" else ""
        return Value(f"blocks.pad_same({x.text}, {one.kernel}, {one.stride}, {one.dilation}{more})", x.rank, x.kind)
    axes = range(2, 2 + one.axes)
    return padded(node, Value(x.text, 2 + one.axes, x.kind), [*one.before, *one.after], axes, value, "constant")


def _pool_window(node: Node) -> Window:
    return window(node, tuple(node.integers("kernel_shape")))


def _max_pool(node: Node) -> Result:
    if len(node.outputs) > 1 and node.outputs[1]:
        node.refuse("its indices are used")
    one, x = _pool_window(node), node.x
    fits = one.is_symmetric and all(
        2 * pad <= (size - 1) * step + 1 for pad, size, step in zip(one.before, one.kernel, one.dilation, strict=True)
    )
    if not fits:
        x = with_padding(node, x, one, "-math.inf")
    stride = "" if one.stride == one.kernel else f", {short(one.stride)}"
    options = f", dilation={short(one.dilation)}" if set(one.dilation) != {1} else ""
    options = (one.padding() if fits else "") + options + (", ceil_mode=True" if node.integer("ceil_mode", 0) else "")
    layer = node.module.layer(node.readable, f"nn.MaxPool{one.axes}d({short(one.kernel)}{stride}{options})")
    return Value(f"{layer}({x.text})", 2 + one.axes)


def _average_pool(node: Node) -> Result:
    one, x = _pool_window(node), node.x
    counts = bool(node.integer("count_include_pad", 0)) and any(one.before + one.after)
    ceil = bool(node.integer("ceil_mode", 0))
    if set(one.dilation) != {1} or (ceil and (counts or not one.is_symmetric)):
        node.refuse("dilation, or padding that is counted in ceil mode")
    sizes = short(one.kernel) + ("" if one.stride == one.kernel else f", {short(one.stride)}")
    fits = one.is_symmetric and all(2 * pad <= size for pad, size in zip(one.before, one.kernel, strict=True))
    if fits:
        options = one.padding() + (", ceil_mode=True" if ceil else "")
        options += ", count_include_pad=False" if any(one.before) and not counts else ""
        layer = node.module.layer(node.readable, f"nn.AvgPool{one.axes}d({sizes}{options})")
        return Value(f"{layer}({x.text})", 2 + one.axes)
    pool = f"F.avg_pool{one.axes}d"
    text = f"{pool}({with_padding(node, x, one).text}, {sizes})"
    if not counts:
        ones = Value(f"torch.ones_like({x.atom}[:1, :1])", 2 + one.axes)
        text = f"{text} / {pool}({with_padding(node, ones, one).text}, {sizes})"
    return Value(text, 2 + one.axes)


def _global_pool(function: str) -> Callable[[Node], Result]:
    def apply(node: Node) -> Result:
        rank = node.need(node.x.rank)
        spatial = tuple(range(2, rank)) if rank > 3 else 2
        return Value(f"{node.x.atom}.{function}({spatial}, keepdim=True)", node.x.rank)

    return apply


_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _resize(node: Node) -> Result:
    x, mode = node.x, node.choice("mode", "nearest", "nearest", "linear", "cubic")
    old = node.kind == "Upsample" or node.opset < 11
    slots = (None, 1) if old else (3, 2)  # of the sizes and of the scales
    sizes = node.list_of(slots[0]) if slots[0] and node.has(slots[0]) else []
    scales = _scales(node, slots[1]) if not sizes else []
    rank = node.need(x.rank or len(sizes) or len(scales))
    axes = node.integers("axes", list(range(len(sizes or scales))))
    inner = list(range(2, rank))
    given = {node.axis(axis, rank): one for axis, one in zip(axes, sizes or scales, strict=True)}
    still = [axis for axis in given if axis not in inner]
    if scales and any(given[axis] != 1 for axis in still):
        node.refuse("scales of the batch or of the channels")
    if not all(axis in given for axis in inner) or not 1 <= len(inner) <= 3:
        node.refuse("it does not resize all axes behind the channels")
    wanted = [given[axis] for axis in inner]
    place = node.config.get("coordinate_transformation_mode", "half_pixel")
    if scales and place == "align_corners" and any(one != int(one) for one in wanted):
        node.refuse("corners aligned by scales that are no whole numbers")
    if place == "pytorch_half_pixel" and mode != "nearest" and 1 in wanted and sizes:
        node.refuse("an axis of size 1 by 'pytorch_half_pixel'")
    how = _interpolation(node, mode, old, [float(one) for one in wanted] if scales else [], len(inner))
    values_text = ", ".join(literal(one) if isinstance(one, float) else str(one) for one in wanted)
    text = f"{'scale_factor' if scales else 'size'}=({values_text}{',' if len(wanted) == 1 else ''})"
    return Value(f"F.interpolate({x.text}, {text}, {how})", rank, x.kind)


def _scales(node: Node, slot: int) -> list[float]:
    if node.has(slot):
        given = node.given(slot)
        if isinstance(given, Numbers) and given.is_known:
            return [float(one) for one in given.items]
        node.refuse("its scales are computed")
    values = node.config.get("scales")
    if not isinstance(values, list):
        node.refuse("neither scales nor sizes")
    return [float(one) for one in values]


def _interpolation(node: Node, mode: str, old: bool, scales: list[float], axes: int) -> str:
    """The arguments of `F.interpolate`; settings for which it computes something else are refused."""
    place = "asymmetric" if old else node.config.get("coordinate_transformation_mode", "half_pixel")
    if node.integer("antialias", 0) or node.integer("exclude_outside", 0):
        node.refuse("antialias or exclude_outside")
    node.choice("keep_aspect_ratio_policy", "stretch", "stretch")
    if mode == "nearest":
        rounding = "floor" if old else node.config.get("nearest_mode", "round_prefer_floor")
        whole = bool(scales) and all(one >= 1 and one == int(one) for one in scales)
        is_plain = (
            (place == "asymmetric" and rounding == "floor")
            or (place in ("half_pixel", "pytorch_half_pixel") and whole and rounding.startswith("round_prefer"))
            or (place == "asymmetric" and rounding == "round_prefer_floor" and whole and max(scales) <= 2)
            or (place == "tf_half_pixel_for_nn" and whole and rounding in ("floor", "round_prefer_floor"))
        )
        if not is_plain:
            node.refuse(f"the nearest value by {place!r} and {rounding!r}")
        return 'mode="nearest"'
    if place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        node.refuse(f"values between others by {place!r}")
    if mode == "cubic" and (axes != 2 or node.number("cubic_coeff_a", -0.75) != -0.75):
        node.refuse("cubic over other than two axes, or with another coefficient")
    aligned = ", align_corners=True" if place == "align_corners" else ""
    return f'mode="{"bicubic" if mode == "cubic" else _LINEAR[axes]}"{aligned}'


_GRID_MODES = {
    "bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic", "cubic": "bicubic",
}  # fmt: skip


def _grid_sample(node: Node) -> Result:
    mode = _GRID_MODES[node.choice("mode", "bilinear", *_GRID_MODES)]
    padding = node.choice("padding_mode", "zeros", "zeros", "border", "reflection")
    aligned = bool(node.integer("align_corners", 0))
    more = f'mode="{mode}", padding_mode="{padding}", align_corners={aligned}'
    return Value(f"F.grid_sample({node.x.text}, {node.tensor(1).text}, {more})", node.x.rank)


WINDOWS: dict[str, Callable[[Node], Result]] = {
    "MaxPool": _max_pool, "AveragePool": _average_pool, "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("amax"), "Resize": _resize, "Upsample": _resize, "GridSample": _grid_sample,
}  # fmt: skip
