"""What the kernels of torch may differ by when the same sample is computed in batches of another shape."""

from __future__ import annotations

import torch
from torch import Tensor

# Relative to the largest value. Measured on resnet18, vit_tiny and BERT in float32: below 2e-6. A GPU multiplies
# float32 in TF32, with the mantissa of float16: 4e-4 on resnet18 and mobilenetv3, so float16's is allowed there.
_BY_DTYPE = {
    torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2,
    torch.complex128: 1e-9, torch.complex64: 1e-4,
}  # fmt: skip


def batch_tolerance(dtype: torch.dtype, *, is_on_gpu: bool) -> float:
    """The largest relative difference of one sample between two batches; 0 for whole numbers.

    Example:
        >>> batch_tolerance(torch.float32, is_on_gpu=False), batch_tolerance(torch.int64, is_on_gpu=False)
        (0.0001, 0.0)
    """
    return _BY_DTYPE.get(torch.float16 if is_on_gpu and dtype == torch.float32 else dtype, 0.0)


def autocast_dtypes() -> list[torch.dtype]:
    """What autocast computes in now; empty without it."""
    return [torch.get_autocast_dtype(kind) for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]


def relative_difference(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest finite value of the second.

    Returns:
        Infinity where one of them is NaN or infinite and the other is another value; equal special values do not count.
    """
    wide = torch.complex128 if other.is_complex() else torch.float64
    a, b = one.detach().cpu().to(wide), other.detach().cpu().to(wide)
    if a.numel() == 0:
        return 0.0
    is_same = (a == b) | (a.isnan() & b.isnan())
    is_finite = a.isfinite() & b.isfinite()
    if not bool((is_same | is_finite).all()):
        return float("inf")
    difference = torch.where(is_same, 0.0, (a - b).abs())
    scale = torch.where(b.isfinite(), b.abs(), 0.0)
    return float(difference.max()) / (float(scale.max()) or 1.0)
