"""Errors for layers of the file that no module of PyTorch can represent, or whose tensors have no names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.core.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.units.unit import SourceUnit


def refuse_unfit(path: str, units: Sequence[SourceUnit]) -> None:
    """Refuse layers that have no partner for a known reason.

    Args:
        path: Path of the file.
        units: Layers of the file without a partner.

    Raises:
        PortError: For the first such layer, with the remedy.
    """
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
