"""The padding of convolutions. SAME depends on the size of the input; with a stride above 1 it is not symmetric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.porting.settings.setting import AGREES, DIFFERS, UNKNOWN, Setting, described

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.nn.modules.conv import _ConvNd

    from frostline.porting.readers.contract import SourceLayer


def convolution(
    name: str, module: _ConvNd, layer: SourceLayer, before: SourceLayer | None, size: Sequence[int] | None
) -> Setting:
    """Compare the padding of a convolution.

    Args:
        name: The layer of the module.
        module: The layer, a convolution of PyTorch that is not transposed.
        layer: The layer of the file.
        before: The layer of the file before it.
        size: The sizes of its input along the kernel's axes, if they are known.
    """
    stated, own = layer.config.get("padding", "valid"), module.padding
    axes = len(module.kernel_size)
    if module.padding_mode != "zeros":
        return described(
            name, "padding", DIFFERS, f"padding_mode={module.padding_mode!r} in the module, zeros in the file"
        )
    reach = [(k - 1) * d + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    symmetric = _symmetric(own, reach)
    if stated == "same":
        wanted = _same(reach, module.stride, size)
        if symmetric == (0,) * axes and wanted != [(0, 0)] * axes:
            return _outside(name, "SAME", _remedy(module))
        if wanted is None:
            text = f"{symmetric} in the module, SAME in the file, which depends on the size of the input with stride"
            return described(name, "padding", UNKNOWN, f"{text} {module.stride}: {_remedy(module)}")
        agrees = all(first == p and _ends(p, last, k, s, n) for (first, last), p, k, s, n in zip(
            wanted, symmetric, reach, module.stride, size or [0] * axes, strict=True))  # fmt: skip
        text = f"{symmetric} on both sides in the module, {wanted} (before, after) in the file"
        return described(
            name, "padding", AGREES if agrees else DIFFERS, text if agrees else f"{text}: {_remedy(module)}"
        )
    if stated == "causal":
        first = f"pad {reach[0] - 1} values before the data only"
        return _outside(name, "causal", first) if not any(symmetric) else described(
            name, "padding", DIFFERS, f"{symmetric} on both sides in the module, causal in the file: {first}"
        )  # fmt: skip
    zeros = _zero_padding(before, axes)
    if zeros is None or not any(symmetric):
        agrees = not any(symmetric)
        return described(name, "padding", AGREES if agrees else DIFFERS, f"{symmetric} in the module, none in the file")
    agrees = zeros == [(p, p) for p in symmetric]
    return described(
        name, "padding", AGREES if agrees else DIFFERS, f"{symmetric} in the module, {zeros} by a layer of the file"
    )


def transposed(name: str, module: _ConvNd, layer: SourceLayer) -> Setting:
    """Compare the border that a transposed convolution crops."""
    stated, more = layer.config.get("padding", "valid"), layer.config.get("output_padding")
    if more is not None or set(module.dilation) != {1}:
        return described(name, "padding", UNKNOWN, f"output_padding={more} in the file")
    padding = _symmetric(module.padding, module.kernel_size)
    kinds = list(zip(module.kernel_size, module.stride, padding, module.output_padding, strict=True))
    if stated == "same":
        agrees = all(p == max(k - s, 0) // 2 and o == s - k + 2 * p for k, s, p, o in kinds)
        is_whole = all(p == o == 0 for _, _, p, o in kinds)
        if not agrees and is_whole:
            more = tuple(max(s - k, 0) for k, s, _, _ in kinds)
            crop = f"frostline.porting.blocks.CropTransposed({module.kernel_size}, {module.stride})"
            return _outside(name, "SAME", crop + (f", with output_padding={more}," if any(more) else ""))
    else:
        agrees = all(p == 0 and o == max(s - k, 0) for k, s, p, o in kinds)
    text = f"padding {module.padding} and output_padding {module.output_padding} in the module, {stated!r} in the file"
    return described(name, "padding", AGREES if agrees else DIFFERS, text)


def _outside(name: str, kind: str, remedy: str) -> Setting:
    return described(
        name,
        "padding",
        UNKNOWN,
        f"none in the layer, {kind} in the file: {remedy}, unless the forward method does that",
    )


def _remedy(module: _ConvNd) -> str:
    def short(sizes: Any) -> str:
        return str(sizes[0] if len(set(sizes)) == 1 else tuple(sizes))

    more = f", dilation={short(module.dilation)}" if set(module.dilation) != {1} else ""
    axes = len(module.kernel_size)
    return (
        f"frostline.porting.blocks.SamePad{axes}d({short(module.kernel_size)}, {short(module.stride)}{more}) before it"
    )


def _symmetric(padding: Any, reach: Sequence[int]) -> tuple[int, ...]:
    if padding == "valid":
        return (0,) * len(reach)
    if padding == "same":
        return tuple((size - 1) // 2 for size in reach)
    return tuple(padding)


def _same(reach: Sequence[int], stride: Sequence[int], size: Sequence[int] | None) -> list[tuple[int, int]] | None:
    """The padding of SAME before and after the data; None if it depends on an unknown size."""
    found: list[tuple[int, int]] = []
    for axis, (k, s) in enumerate(zip(reach, stride, strict=True)):
        sizes = [size[axis]] if size else range(s, 2 * s)
        totals = {max((-(-n // s) - 1) * s + k - n, 0) for n in sizes}
        if len(totals) > 1:
            return None
        total = totals.pop()
        found.append((total // 2, total - total // 2))
    return found


def _ends(padding: int, last: int, reach: int, stride: int, size: int) -> bool:
    """Whether symmetric padding gives the same outputs: no window reaches the surplus padding at the end."""
    if padding == last or size == 0:
        return padding == last
    return (size + 2 * padding - reach) // stride == -(-size // stride) - 1


def _zero_padding(before: SourceLayer | None, axes: int) -> list[tuple[int, int]] | None:
    if before is None or not before.kind.startswith("ZeroPadding"):
        return None
    stated = before.config.get("padding", 1)
    sides = [stated] * axes if isinstance(stated, int) else list(stated)
    if axes == 1 and len(sides) == 2:
        sides = [sides]
    return [(one, one) if isinstance(one, int) else (one[0], one[1]) for one in sides]
